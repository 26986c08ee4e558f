//! Wraps text between words to fit a terminal. Text that doesn't go to a terminal isn't wrapped.

use std::io;

/// The width at which a line still reads well, however wide the terminal.
const MAX_COLUMNS: usize = 110;

/// The width of the terminal on standard output; `None` if it isn't one.
#[cfg(feature = "cli")]
pub(crate) fn columns() -> Option<usize> {
    terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0))
}

/// The width of the terminal on standard error; `None` if it isn't one.
pub(crate) fn error_columns() -> Option<usize> {
    terminal_size::terminal_size_of(io::stderr()).map(|(width, _)| usize::from(width.0))
}

/// Wraps a sentence to this many columns, or leaves it alone without a limit. Lines after the first are indented.
pub(crate) fn sentence(text: &str, columns: Option<usize>) -> String {
    const INDENT: usize = 2;
    match columns.map(|columns| columns.min(MAX_COLUMNS)) {
        Some(columns) if text.chars().count() > columns => {
            let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
            wrapped(first, INDENT, rest, columns).join("\n")
        }
        _ => text.to_owned(),
    }
}

/// Wraps a text to this many columns, starting at column `indent`, with `head` before the first line. A longer word
/// gets a line of its own and isn't broken.
pub(crate) fn wrapped(head: &str, indent: usize, text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = head.to_owned();
    let mut at = line.chars().count();
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if at > indent && at + 1 + length > columns {
            lines.push(std::mem::take(&mut line));
            at = 0;
        }
        let space = if at > indent { 1 } else { indent.saturating_sub(at) };
        line += &" ".repeat(space);
        line += word;
        at += space + length;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words() {
        let words = ["abcdefghi"; 12].join(" ");
        let lines = wrapped("    k", 8, &words, 100);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], format!("    k   {}", ["abcdefghi"; 9].join(" ")));
        assert_eq!(lines[1], format!("        {}", ["abcdefghi"; 3].join(" ")));
        assert_eq!(wrapped("", 4, "a  b", 100), ["    a b"]);
        // What can't be broken stands alone.
        let long = "x".repeat(200);
        assert_eq!(
            wrapped("    k", 6, &format!("a {long} b"), 100),
            ["    k a".to_owned(), format!("      {long}"), "      b".to_owned()]
        );
    }

    #[test]
    fn sentences_are_broken_only_where_they_do_not_fit() {
        let text = "epoch 1 of 8: loss 0.5,  test accuracy 90 %";
        assert_eq!(sentence(text, None), text);
        assert_eq!(sentence(text, Some(80)), text);
        assert_eq!(sentence(text, Some(23)), "epoch 1 of 8: loss 0.5,\n  test accuracy 90 %");
        let long = "word ".repeat(100);
        assert!(sentence(&long, Some(500)).lines().all(|line| line.len() <= MAX_COLUMNS));
        assert_eq!(sentence("", Some(0)), "");
    }
}
