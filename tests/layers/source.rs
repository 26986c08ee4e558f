//! Reads which other modules a module's source mentions.

use std::collections::BTreeMap;

/// What a module's source mentions of others.
#[derive(Default)]
pub(crate) struct Source {
    /// Every path that begins with `crate`, `self` or `super`, and every one in a `use`.
    pub(crate) paths: Vec<Vec<String>>,
    /// The names that a `use` introduces here.
    pub(crate) names: BTreeMap<String, Vec<String>>,
}

/// Its code without comments, contents of literals, and code that is only compiled for tests.
fn code(source: &str) -> String {
    let characters: Vec<char> = source.chars().collect();
    let starts = |at: usize, text: &str| text.chars().enumerate().all(|(n, c)| characters.get(at + n) == Some(&c));
    let (mut code, mut at) = (String::new(), 0);
    while at < characters.len() {
        let hashes = characters[at + 1..].iter().take_while(|character| **character == '#').count();
        let end = if starts(at, "//") {
            characters[at..].iter().position(|character| *character == '\n').map(|length| at + length)
        } else if starts(at, "/*") {
            (at + 2..characters.len()).find(|&end| starts(end, "*/")).map(|end| end + 2)
        } else if characters[at] == 'r' && starts(at + 1 + hashes, "\"") && !code.ends_with(is_of_name) {
            let close = format!("\"{}", "#".repeat(hashes));
            (at + 2 + hashes..characters.len()).find(|&end| starts(end, &close)).map(|end| end + 1 + hashes)
        } else if characters[at] == '"' {
            let mut end = at + 1;
            while characters.get(end).is_some_and(|character| *character != '"') {
                end += if characters[end] == '\\' { 2 } else { 1 };
            }
            Some(end + 1)
        } else if starts(at, "'\\") {
            (at + 3..characters.len()).find(|&end| characters[end] == '\'').map(|end| end + 1)
        } else if characters[at] == '\'' && starts(at + 2, "'") {
            Some(at + 3)
        } else {
            code.push(characters[at]);
            Some(at + 1)
        };
        at = end.unwrap_or(characters.len());
    }
    while let Some(start) = code.find("#[cfg(test)]") {
        let mut depth = 0;
        let ends = |(_, character): &(usize, char)| {
            depth += i32::from(*character == '{') - i32::from(*character == '}');
            depth == 0 && matches!(character, '}' | ';')
        };
        let end = code[start..].char_indices().find(ends).map_or(code.len(), |(length, _)| start + length + 1);
        code.replace_range(start..end, "");
    }
    code
}

fn is_of_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Names, `::`, and single characters.
fn tokens(code: &str) -> Vec<&str> {
    let (mut found, mut rest) = (Vec::new(), code.trim_start());
    while let Some(first) = rest.chars().next() {
        let length = match first {
            _ if is_of_name(first) => rest.find(|character| !is_of_name(character)).unwrap_or(rest.len()),
            ':' if rest.starts_with("::") => 2,
            _ => first.len_utf8(),
        };
        found.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    found
}

impl Source {
    pub(crate) fn read(source: &str) -> Self {
        let code = code(source);
        let tokens = tokens(&code);
        let (mut read, mut at) = (Self::default(), 0);
        while at < tokens.len() {
            let is_use = tokens[at] == "use";
            let is_path = matches!(tokens[at], "crate" | "self" | "super") && tokens.get(at + 1) == Some(&"::");
            if is_use || is_path {
                at += usize::from(is_use);
                read.tree(&tokens, &mut at, &[], is_use);
            } else {
                at += 1;
            }
        }
        read
    }

    /// What follows the path `before`: more segments, or several endings in braces.
    fn tree(&mut self, tokens: &[&str], at: &mut usize, before: &[String], is_use: bool) {
        let mut path = before.to_vec();
        loop {
            match tokens.get(*at) {
                Some(&"{") => {
                    *at += 1;
                    while tokens.get(*at).is_some_and(|token| *token != "}") {
                        self.tree(tokens, at, &path, is_use);
                        *at += usize::from(tokens.get(*at) == Some(&","));
                    }
                    *at += 1;
                    return;
                }
                Some(&"self") if !path.is_empty() => {}
                Some(name) if name.starts_with(is_of_name) => path.push((*name).to_owned()),
                _ => {}
            }
            *at += 1;
            if tokens.get(*at) != Some(&"::") {
                break;
            }
            *at += 1;
        }
        let mut called = path.last().cloned().unwrap_or_default();
        if is_use && tokens.get(*at) == Some(&"as") {
            called = (*tokens.get(*at + 1).unwrap_or(&"_")).to_owned();
            *at += 2;
        }
        if is_use {
            self.names.insert(called, path.clone());
        }
        self.paths.push(path);
    }
}

#[test]
fn paths_are_read_as_the_compiler_does() {
    let source = "
        use crate::{
            folder::{self, Value, Watch as Look}, // crate::cli
            weights::*,
        };
        pub(super) use self::inner::{deep::Thing, super::Other};
        fn f() -> &'static str { crate::node::x::<u8>(); let c = ['\\'', '\"', '{']; \"crate::demo\" }
        /* crate::home */ const RAW: &str = r#\" \" crate::cache \"#;
        #[cfg(test)]
        mod tests { use crate::program; fn g() { if true {} } }
        #[cfg(test)]
        use crate::bucket;
        fn h() { super::last() }";
    let source = Source::read(source);
    let paths: Vec<String> = source.paths.iter().map(|path| path.join("::")).collect();
    let expected = [
        "crate::folder",
        "crate::folder::Value",
        "crate::folder::Watch",
        "crate::weights",
        "self::inner::deep::Thing",
        "self::inner::super::Other",
        "crate::node::x",
        "super::last",
    ];
    assert_eq!(paths, expected);
    assert_eq!(source.names["Look"].join("::"), "crate::folder::Watch");
    assert_eq!(source.names["folder"].join("::"), "crate::folder");
}
