//! The path of a URL exactly as written: each part decoded, nothing normalised. A path that a URL parser would
//! normalise into a different one is an error.

/// The parts of a path between its slashes, decoded; the last one is empty where a slash ends it. An error says what
/// isn't allowed there.
pub(crate) fn parts(path: &str) -> Result<Vec<String>, &'static str> {
    if path.contains('?') {
        return Err("? begins a query, which it can't have; write %3F where it belongs to a name");
    }
    if path.contains('#') {
        return Err("# begins a fragment, which it can't have; write %23 where it belongs to a name");
    }
    path.split('/').map(part).collect()
}

fn part(text: &str) -> Result<String, &'static str> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&byte, tail)) = rest.split_first() {
        let (byte, tail) = match byte {
            b'%' => {
                let digit = |at: usize| tail.get(at).and_then(|&digit| char::from(digit).to_digit(16));
                let (Some(high), Some(low)) = (digit(0), digit(1)) else {
                    return Err("% begins two hexadecimal digits; write %25 where it belongs to a name");
                };
                ((high * 16 + low) as u8, &tail[2..])
            }
            byte => (byte, tail),
        };
        if byte == b'/' {
            return Err("a name in it has a slash, %2F");
        }
        bytes.push(byte);
        rest = tail;
    }
    let part = String::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    if part.chars().any(char::is_control) {
        return Err("it has a control character");
    }
    if part == "." || part == ".." {
        return Err(". and .. can't stand in it; write the whole path");
    }
    Ok(part)
}

/// Encodes a path so that [`parts`] gives it back.
pub(crate) fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for character in path.chars() {
        match character {
            '%' => text.push_str("%25"),
            '?' => text.push_str("%3F"),
            '#' => text.push_str("%23"),
            character => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_reader_of_urls_would_change_is_an_error() {
        for (path, part) in [
            ("a?b", "%3F"),
            ("a#b", "%23"),
            ("a/../b", ".."),
            ("..", ".."),
            ("a/./b", ".."),
            ("a/%2e%2E/b", ".."),
            ("a/.%2e", ".."),
            ("a%2Fb", "slash"),
            ("a%2fb", "slash"),
            ("100%", "%25"),
            ("%zz", "%25"),
            ("%+1", "%25"),
            ("%é", "%25"),
            ("a%00", "control"),
            ("a\nb", "control"),
            ("a\tb", "control"),
            ("%ff", "UTF-8"),
        ] {
            assert!(parts(path).unwrap_err().contains(part), "{path:?}");
        }
        assert_eq!(parts("a b/..c/%41%20\\/...").unwrap(), ["a b", "..c", "A \\", "..."]);
        assert_eq!(parts("a//b/").unwrap(), ["a", "", "b", ""]);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_as_it_was(path in "[^\\pC]{0,40}") {
            match parts(&encoded(&path)) {
                Ok(parts) => prop_assert_eq!(parts.join("/"), path),
                Err(_) => prop_assert!(path.split('/').any(|part| part == "." || part == "..")),
            }
        }
    }
}
