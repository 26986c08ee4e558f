//! The layers of ARCHITECTURE.md: each module uses only those below it, and no modules within a layer use each other in
//! a circle.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "layers/circles.rs"]
mod circles;
#[path = "layers/source.rs"]
mod source;

use circles::{Sources, circles, uses_between_siblings};
use source::Source;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// From the bottom to the top. Modules in one line may use each other, but not in a circle.
const LAYERS: &[&[&str]] = &[
    &["descriptors", "durable_file", "file_format", "logs", "pasted", "printable", "secret", "settings", "untrusted"],
    &["weights"],
    &["entries"],
    &["home"],
    &["cache"],
    &["p2p"],
    &["bucket"],
    &["folder"],
    &["strategy"],
    &["node"],
    &["run"],
    &["exec"],
    &["train"],
    &["experiment"],
    &["prelude"],
    &["program"],
    &["bootstrap"],
    &["demo"],
    &["cli"],
    &["decoders"],
];

/// The circles that exist today: the module that they are in, the children that may be in one, and why. Take out a
/// child that is no longer in one, and never add to the list.
const ALLOWED: &[(&str, &[&str], &str)] = &[];

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for file in fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// All sources except unit tests, which may use the whole program.
fn sources() -> Sources {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let module = |file: &Path| -> Vec<String> {
        let inside = file.strip_prefix(&src).unwrap().with_extension("");
        inside.iter().map(|part| part.to_str().unwrap().to_owned()).filter(|part| part != "lib").collect()
    };
    let is_of_tests = |file: &Path| file.iter().any(|part| part == "tests" || part == "tests.rs" || part == "main.rs");
    let read = |file: &PathBuf| (module(file), Source::read(&fs::read_to_string(file).unwrap()));
    files.iter().filter(|file| !is_of_tests(file.strip_prefix(&src).unwrap())).map(read).collect()
}

#[test]
fn no_module_uses_one_above_it() {
    let rank: BTreeMap<&str, usize> =
        LAYERS.iter().enumerate().flat_map(|(rank, names)| names.iter().map(move |name| (*name, rank))).collect();
    let (mut checked, mut wrong) = (0, Vec::new());
    for (module, source) in sources() {
        let Some(layer) = module.first() else { continue };
        let own = *rank
            .get(layer.as_str())
            .unwrap_or_else(|| panic!("{layer} has no layer: give it one here and in ARCHITECTURE.md"));
        for path in source.paths.iter().filter(|path| path.first().is_some_and(|first| first == "crate")) {
            let used = path.get(1).map_or("", String::as_str);
            checked += 1;
            if rank.get(used).is_none_or(|&used| used > own) {
                wrong.push(format!("{} uses {used}", module.join("/")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 50, "only {checked} uses were found: the test no longer reads the sources");
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    let sources = sources();
    let uses: usize = uses_between_siblings(&sources).values().map(BTreeMap::len).sum();
    assert!(uses > 300, "only {uses} uses between siblings were found: the test no longer reads the sources");
    let found = circles(&sources);
    let wrong: Vec<String> = found
        .iter()
        .filter(|circle| !ALLOWED.iter().any(|(parent, children, _)| circle.is_within(parent, children)))
        .map(|circle| {
            format!("in {:?}: {}\n  {}", circle.parent, circle.children.join(" ↔ "), circle.uses.join("\n  "))
        })
        .collect();
    assert!(wrong.is_empty(), "modules that use each other:\n{}", wrong.join("\n"));
    for (parent, children, _) in ALLOWED {
        let stands = |child: &&&str| found.iter().any(|circle| circle.parent == *parent && circle.has(child));
        let open: Vec<_> = children.iter().filter(|child| !stands(child)).collect();
        assert!(open.is_empty(), "{open:?} in {parent:?} are in no circle any more: take them out of the list");
    }
}
