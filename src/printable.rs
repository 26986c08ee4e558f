//! Text that others wrote, as a terminal and a log may show it.

use std::borrow::Cow;

/// A text with its control characters escaped: neither a line of its own nor a terminal's colours can come out of it.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escaped = |character: char| {
        if character.is_control() { character.escape_debug().to_string() } else { character.to_string() }
    };
    Cow::Owned(text.chars().map(escaped).collect())
}

#[test]
fn only_control_characters_are_escaped() {
    assert_eq!(printable("a \"b\" ä\\n"), "a \"b\" ä\\n");
    assert_eq!(printable("a\n\u{1b}[31m\u{9b}b"), "a\\n\\u{1b}[31m\\u{9b}b");
}
