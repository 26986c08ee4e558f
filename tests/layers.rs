//! The layers of ARCHITECTURE.md: each module uses only those below it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// From the bottom to the top. Modules in one line may use each other.
const LAYERS: &[&[&str]] = &[
    &["descriptors", "durable_file", "file_format", "kernels", "settings"],
    &["weights"],
    &["entries"],
    &["home"],
    &["cache"],
    &["p2p"],
    &["bucket"],
    &["folder"],
    &["strategy"],
    &["node"],
    &["train"],
    &["experiment"],
    &["prelude"],
    &["program"],
    &["bootstrap"],
    &["demo"],
    &["cli"],
];

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

/// Names after `crate::`, also those inside the braces of `use crate::{…}`.
fn used_modules(source: &str) -> Vec<String> {
    let code: String = source.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            found.push(name(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = true;
        for (at, character) in list.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                _ if start && !character.is_whitespace() => {
                    found.push(name(&list[at..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    found
}

fn name(text: &str) -> String {
    text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}

#[test]
fn no_module_uses_one_above_it() {
    let rank: BTreeMap<&str, usize> =
        LAYERS.iter().enumerate().flat_map(|(rank, names)| names.iter().map(move |name| (*name, rank))).collect();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let (mut checked, mut wrong) = (0, Vec::new());
    for file in files {
        let inside = file.strip_prefix(&src).unwrap();
        let module = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        // Unit tests may stand on the whole program.
        if module == "lib" || module == "main" || file.ends_with("tests.rs") {
            continue;
        }
        let own = *rank
            .get(module)
            .unwrap_or_else(|| panic!("{module} has no layer: give it one here and in ARCHITECTURE.md"));
        for used in used_modules(&fs::read_to_string(&file).unwrap()) {
            checked += 1;
            if rank.get(used.as_str()).is_none_or(|&used| used > own) {
                wrong.push(format!("{} uses {used}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 50, "only {checked} uses were found: the test no longer reads the sources");
}

#[test]
fn the_uses_are_found() {
    let source =
        "use crate::{\n    folder::{Value, Watch},\n    weights::Key,\n};\nfn f() { crate::node::x() } // crate::cli";
    assert_eq!(used_modules(source), ["folder", "weights", "node"]);
}
