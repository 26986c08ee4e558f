//! Removes from listings the objects that object_store can't name. It gives up a whole listing for one of them, so
//! anybody who can write to a bucket could hide everything in it.

use object_store::path::Path;

const OBJECT: (&str, &str) = ("<Contents>", "</Contents>");

/// A page of a listing without objects whose keys aren't paths, or that have more than one key.
pub(super) fn readable(page: &str) -> String {
    let (mut kept, mut rest) = (String::with_capacity(page.len()), page);
    while let Some((before, object, after)) = cut(rest) {
        kept.push_str(before);
        let key = object.split_once("<Key>").and_then(|(_, rest)| rest.split_once("</Key>"));
        if key.and_then(|(key, _)| unescaped(key)).is_some_and(|key| is_path(&key)) {
            kept.push_str(object);
        }
        rest = after;
    }
    kept.push_str(rest);
    kept
}

/// What is before the next object, the object, and what is after it.
fn cut(text: &str) -> Option<(&str, &str, &str)> {
    let start = text.find(OBJECT.0)?;
    let end = start + text.get(start..)?.find(OBJECT.1)? + OBJECT.1.len();
    Some((text.get(..start)?, text.get(start..end)?, text.get(end..)?))
}

fn is_path(key: &str) -> bool {
    // A key that ends in a slash would pass for the one without it.
    Path::parse(key).is_ok_and(|path| path.as_ref() == key)
}

fn unescaped(text: &str) -> Option<String> {
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let (name, after) = after.split_once(';')?;
        plain.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            number => {
                let number = number.strip_prefix('#')?;
                let code = match number.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16),
                    None => number.parse(),
                };
                char::from_u32(code.ok()?)?
            }
        });
        rest = after;
    }
    plain.push_str(rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_that_are_paths_stay() {
        let object = |key: &str| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>");
        let page = |keys: &[&str]| {
            let objects: String = keys.iter().map(|key| object(key)).collect();
            format!("<?xml version=\"1.0\"?><ListBucketResult><Name>w</Name>{objects}<Next>x</Next></ListBucketResult>")
        };
        let good = ["a/b.entry", "a &amp; b/c", "&#228;/%2F", "a/&#x62;"];
        let bad =
            ["a//b", "/a", "a/", "a/../b", "a/./b", "a/b&#1;c", "a/b&#x0;", "a\u{1}b", "a&nothing;", "a&b", "&#xd800;"];
        assert_eq!(readable(&page(&good)), page(&good));
        assert_eq!(readable(&page(&bad)), page(&[]));
        assert_eq!(readable(&page(&["a//b", good[0], "c/", good[1]])), page(&good[..2]));
        for other in ["", "<Contents>", "<Contents><Key>a</Key>", "</Contents><Contents>", "not XML"] {
            assert_eq!(readable(other), other);
        }
    }
}
