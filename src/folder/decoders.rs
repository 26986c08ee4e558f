//! The decoders of this layer, as fuzzers try them.

use super::{FolderUrl, local};
use crate::untrusted::{Target, text, told};

fn url(bytes: &[u8]) {
    if let Some(url) = told(text(bytes).parse::<FolderUrl>()) {
        assert_eq!(url.to_string().parse(), Ok(url));
    }
}

fn urls() -> Vec<Vec<u8>> {
    let texts =
        ["memory:", "p2p:", "file:///a%20b/c", "file:///c|/..x", "s3://weights/ward 7/", "file:///x\n\x1b", "p2p:\x07"];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// All of this layer.
pub(crate) fn targets() -> Vec<Target> {
    let mut targets = vec![Target { name: "folder-url", run: url, seeds: urls }];
    targets.extend(local::decoders::targets());
    targets
}
