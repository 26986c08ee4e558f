//! Removes objects from a listing, as a store that shows them late would.

/// Takes the objects whose key contains `hidden` out of a `ListObjectsV2` answer.
pub fn without(listing: &str, hidden: &str) -> String {
    let mut kept = String::with_capacity(listing.len());
    let mut rest = listing;
    let mut removed = 0;
    while let Some(start) = rest.find("<Contents>") {
        let end = rest[start..].find("</Contents>").expect("the element ends") + start + "</Contents>".len();
        kept.push_str(&rest[..start]);
        let object = &rest[start..end];
        if unescaped(element(object, "Key").unwrap_or_default()).contains(hidden) {
            removed += 1;
        } else {
            kept.push_str(object);
        }
        rest = &rest[end..];
    }
    kept.push_str(rest);
    match element(&kept, "KeyCount").and_then(|count| count.parse::<usize>().ok()) {
        Some(count) => kept.replacen(
            &format!("<KeyCount>{count}</KeyCount>"),
            &format!("<KeyCount>{}</KeyCount>", count.saturating_sub(removed)),
            1,
        ),
        None => kept,
    }
}

fn element<'x>(xml: &'x str, name: &str) -> Option<&'x str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

fn unescaped(text: &str) -> String {
    let signs = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    signs.iter().fold(text.to_owned(), |text, (escaped, sign)| text.replace(escaped, sign))
}
