//! The decoders of the secret's file and of pasted text, as fuzzers try them.
#![allow(clippy::unwrap_used)]

use super::{MEANING, Secret, TITLE, VERSION};
use crate::{
    pasted,
    untrusted::{Target, text, told},
};
use std::path::Path;

fn file(bytes: &[u8]) {
    let path = Path::new("ward.secret");
    if let Some(secret) = told(Secret::parse(path, &text(bytes))) {
        assert_eq!(Secret::parse(path, &file_of(&secret)).unwrap(), secret);
    }
}

fn file_of(secret: &Secret) -> String {
    format!("{TITLE}{VERSION}: {MEANING}\n{}\n", pasted::written(&secret.0))
}

fn pasted(bytes: &[u8]) {
    let text = text(bytes);
    if let Some(content) = told(pasted::read(&text)) {
        let bare: String = text.chars().filter(|character| !character.is_whitespace()).collect();
        assert_eq!(pasted::written(&content), bare.to_ascii_lowercase(), "a text has one spelling only");
    }
}

fn base32(bytes: &[u8]) {
    let text = text(bytes);
    if let Some(content) = pasted::from_base32(&text) {
        assert_eq!(pasted::base32(&content), text);
    }
}

/// All of both.
pub(crate) fn targets() -> Vec<Target> {
    let files = || vec![file_of(&Secret::from_bytes([9; 32])).into_bytes()];
    let texts = || [&b"secret"[..], b"", &[7; 40]].map(|content| pasted::written(content).into_bytes()).to_vec();
    let base = || vec![pasted::base32(b"a name").into_bytes()];
    vec![
        Target { name: "secret-file", run: file, seeds: files },
        Target { name: "pasted", run: pasted, seeds: texts },
        Target { name: "base32", run: base32, seeds: base },
    ]
}
