//! Whether an answer is one of S3's. A login page, a proxy or another server may answer in the store's place, even with
//! status 200, and such a page says nothing about what the bucket holds.

use super::trouble::NotS3;
use object_store::client::{HttpRequest, HttpResponse};
use quick_xml::{Reader, escape::resolve_predefined_entity, events::Event};
use std::{borrow::Cow, collections::BTreeSet};
use url::form_urlencoded;

/// Most characters of a page that are quoted.
const SHOWN: usize = 60;
/// How far into an answer we look to tell what kind it is.
const SNIFFED: usize = 1024;

/// What was asked of the store, as far as that decides which answers are possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// A page of a listing of the keys with a prefix.
    List {
        /// The prefix.
        prefix: String,
    },
    /// An object, or a part of it.
    Read {
        /// Whether only a part.
        part: bool,
    },
    /// To write an object.
    Write,
    /// To delete an object.
    Delete,
    /// To delete the objects that this document names.
    DeleteSeveral {
        /// Their keys.
        keys: BTreeSet<String>,
    },
}

/// Status and headers of an answer.
pub(super) struct Head {
    status: u16,
    /// In words: `404 Not Found`.
    status_line: String,
    content_type: String,
    location: Option<String>,
    has_tag: bool,
    has_length: bool,
    has_range: bool,
}

impl Asked {
    /// What a request asks for.
    pub(super) fn of(request: &HttpRequest) -> Self {
        let parameters: Vec<_> = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).collect();
        let parameter = |name: &str| parameters.iter().find(|(found, _)| found == name).map(|(_, value)| &**value);
        match request.method().as_str() {
            "PUT" => Self::Write,
            "DELETE" => Self::Delete,
            "POST" => {
                let document = request.body().as_bytes().and_then(|body| Document::read(body));
                Self::DeleteSeveral { keys: document.map(|document| document.keys).unwrap_or_default() }
            }
            _ if parameter("list-type").is_some() => {
                Self::List { prefix: parameter("prefix").unwrap_or_default().to_owned() }
            }
            _ => Self::Read { part: request.headers().contains_key("range") },
        }
    }

    /// Whether the whole body must be read before the answer is believed.
    pub(super) fn is_document(&self, head: &Head) -> bool {
        !head.is_success() || !matches!(self, Self::Read { .. })
    }

    /// Whether status and headers are those of S3 doing what was asked.
    pub(super) fn check_head(&self, head: &Head) -> Result<(), NotS3> {
        let statuses: &[u16] = match self {
            Self::Read { part: true } => &[206],
            Self::Delete => &[200, 204],
            Self::List { .. } | Self::Read { part: false } | Self::Write | Self::DeleteSeveral { .. } => &[200],
        };
        let is_right = statuses.contains(&head.status);
        match self {
            _ if !is_right => Err(head.is_no_answer("")),
            Self::Read { .. } | Self::Write if !head.has_tag => Err(head.is_no_answer("no ETag")),
            Self::Read { .. } if !head.has_length => Err(head.is_no_answer("no length")),
            Self::Read { part: true } if !head.has_range => Err(head.is_no_answer("no range")),
            _ => Ok(()),
        }
    }

    /// Whether the body is that of S3, for this bucket, doing what was asked.
    pub(super) fn check_body(&self, head: &Head, body: &[u8], bucket: &str) -> Result<(), NotS3> {
        let wrong = |what: &str| Err(head.is_no_answer(what));
        match self {
            Self::Read { .. } => Ok(()),
            Self::Write | Self::Delete if body.trim_ascii().is_empty() => Ok(()),
            Self::Write | Self::Delete => Err(head.is(body)),
            Self::List { prefix } => {
                let Some(listing) = Document::read(body).filter(|document| document.root == "ListBucketResult") else {
                    return Err(head.is(body));
                };
                // An access point's alias stands for a bucket with a different name.
                if listing.name.as_ref().is_some_and(|name| name != bucket && !is_alias(bucket)) {
                    return wrong("a listing of another bucket");
                }
                if listing.prefix.as_ref().is_some_and(|listed| listed != prefix) {
                    return wrong("a listing of something else");
                }
                if listing.is_truncated && listing.next.is_none() {
                    return wrong("a listing that breaks off");
                }
                Ok(())
            }
            Self::DeleteSeveral { keys } => {
                let Some(result) = Document::read(body).filter(|document| document.root == "DeleteResult") else {
                    return Err(head.is(body));
                };
                if result.keys.is_subset(keys) { Ok(()) } else { wrong("an answer about objects that weren't named") }
            }
        }
    }

    /// Whether an unsuccessful answer is one of S3's: its errors, redirects included, are documents with a code. Some
    /// are accepted without one: that an object has no such range, that the store can't do such a thing, and those that
    /// lead to a retry, which gateways in front of a store give.
    pub(super) fn check_refusal(&self, head: &Head, body: &[u8]) -> Result<(), NotS3> {
        let is_error = Document::read(body).is_some_and(|document| document.root == "Error" && document.has_code);
        let is_plain = match head.status {
            405 | 408 | 416 | 429 => true,
            511 => false,
            // In answer to a conditional write.
            304 => *self == Self::Write,
            status => status >= 500,
        };
        if is_error || is_plain { Ok(()) } else { Err(head.is(body)) }
    }
}

/// Whether it is the name of an access point rather than a bucket's own.
fn is_alias(bucket: &str) -> bool {
    bucket.ends_with("-s3alias") || bucket.ends_with("--ol-s3")
}

impl Head {
    /// Of a response.
    pub(super) fn of(response: &HttpResponse) -> Self {
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        Self {
            status: response.status().as_u16(),
            status_line: response.status().to_string(),
            content_type: header("content-type").unwrap_or_default().to_ascii_lowercase(),
            location: header("location").map(str::to_owned),
            has_tag: header("etag").is_some(),
            has_length: header("content-length").is_some(),
            has_range: header("content-range").is_some_and(|range| range.starts_with("bytes ")),
        }
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// An answer with this wrong in it, or nothing but its status.
    fn is_no_answer(&self, what: &str) -> NotS3 {
        let kind = self.content_type.split(';').next().unwrap_or_default().trim();
        let parts = [self.status_line.as_str(), kind, what];
        NotS3(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", "))
    }

    /// An answer with this body, in words.
    fn is(&self, body: &[u8]) -> NotS3 {
        if let Some(location) = self.location.as_ref().filter(|_| !self.is_success()) {
            return NotS3(format!("{}, to {}", self.status_line, shown(location)));
        }
        NotS3(format!("{}, {}", self.status_line, kind_of(body, &self.content_type)))
    }
}

/// What a body is, in everyday words.
fn kind_of(body: &[u8], content_type: &str) -> String {
    let beginning = String::from_utf8_lossy(&body[..body.len().min(SNIFFED)]).to_lowercase();
    let beginning = beginning.trim_start_matches('\u{feff}').trim_start();
    if body.trim_ascii().is_empty() {
        "empty".to_owned()
    } else if body.starts_with(&[0x1f, 0x8b]) {
        "compressed data".to_owned()
    } else if content_type.contains("html") && beginning.starts_with('<') || beginning.contains("<html") {
        let text = String::from_utf8_lossy(body);
        let title = ["title", "h1"].iter().find_map(|element| inside(&text, element));
        title.map_or_else(|| "an HTML page".to_owned(), |title| format!("an HTML page, {:?}", shown(title)))
    } else if beginning.starts_with(['{', '[']) {
        "JSON".to_owned()
    } else if beginning.starts_with('<') {
        match Document::read(body) {
            Some(document) => format!("the document <{}>", shown(&document.root)),
            None => "a document that isn't whole".to_owned(),
        }
    } else {
        match str::from_utf8(body) {
            Ok(text) => format!("the text {:?}", shown(text.trim())),
            Err(_) => format!("{} bytes that are no document", body.len()),
        }
    }
}

/// The text of the first element with this name.
fn inside<'t>(text: &'t str, element: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{element}"))?;
    let (inner, _) = rest.split_once('>')?.1.split_once('<')?;
    Some(inner.trim()).filter(|inner| !inner.is_empty())
}

/// As much of foreign text as fits into a message. Control characters are removed where all messages are cleaned.
fn shown(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// The relevant parts of one of S3's XML documents. Elements are recognised by name, without namespace.
#[derive(Debug, Default)]
pub(super) struct Document {
    root: String,
    /// Of a listing: the bucket, the prefix, whether there is more, and where it goes on.
    name: Option<String>,
    prefix: Option<String>,
    is_truncated: bool,
    next: Option<String>,
    /// Of an error.
    has_code: bool,
    /// In a request to delete several objects: their keys. In the answer: the keys of those that were not deleted.
    keys: BTreeSet<String>,
}

impl Document {
    /// `None` if it isn't a document, or is cut short.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::from_reader(body);
        let (mut document, mut open, mut text) = (Self::default(), Vec::<String>::new(), String::new());
        let mut url_encoded = false;
        let name_of = |name: &[u8]| String::from_utf8(name.to_vec()).ok();
        loop {
            match reader.read_event().ok()? {
                Event::Start(start) => {
                    let name = name_of(start.local_name().as_ref())?;
                    if open.is_empty() {
                        // One root, and nothing after it.
                        if !document.root.is_empty() {
                            return None;
                        }
                        document.root.clone_from(&name);
                    }
                    open.push(name);
                    text.clear();
                }
                Event::Empty(start) if open.is_empty() => {
                    if !document.root.is_empty() {
                        return None;
                    }
                    document.root = name_of(start.local_name().as_ref())?;
                }
                Event::End(_) => {
                    let value = std::mem::take(&mut text);
                    match open.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                        ["ListBucketResult", "Name"] => document.name = Some(value).filter(|name| !name.is_empty()),
                        ["ListBucketResult", "Prefix"] => document.prefix = Some(value),
                        ["ListBucketResult", "IsTruncated"] => document.is_truncated = value.trim() == "true",
                        ["ListBucketResult", "NextContinuationToken"] => {
                            document.next = Some(value).filter(|token| !token.is_empty());
                        }
                        ["ListBucketResult", "EncodingType"] => url_encoded = value.trim() == "url",
                        ["Error", "Code"] => document.has_code = !value.trim().is_empty(),
                        ["Delete", "Object", "Key"] | ["DeleteResult", "Error", "Key"] => {
                            document.keys.insert(value);
                        }
                        _ => {}
                    }
                    open.pop();
                }
                Event::Text(part) if !open.is_empty() => text.push_str(&part.decode().ok()?),
                Event::Text(part) if !part.decode().ok()?.trim_matches('\u{feff}').trim().is_empty() => return None,
                Event::CData(part) => text.push_str(&part.decode().ok()?),
                Event::GeneralRef(reference) => match reference.resolve_char_ref().ok()? {
                    Some(character) => text.push(character),
                    None => text.push_str(resolve_predefined_entity(&reference.decode().ok()?)?),
                },
                Event::Eof if open.is_empty() && !document.root.is_empty() => break,
                Event::Eof => return None,
                _ => {}
            }
        }
        if url_encoded {
            let decode = |text: String| {
                form_urlencoded::parse(format!("x={text}").as_bytes()).next().map(|(_, value)| value.into_owned())
            };
            document.prefix = document.prefix.and_then(decode);
        }
        Some(document)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LISTING: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
        <ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>ward</Name><Prefix>a &amp; b/</Prefix>\
        <IsTruncated>false</IsTruncated><Contents><Key>a &amp; b/c</Key><Size>1</Size></Contents></ListBucketResult>";
    const ERROR: &str = "<Error><Code>NoSuchKey</Code><Message>no</Message></Error>";
    const PAGES: [&str; 8] = [
        "<!DOCTYPE html><html><body><h1>Guest WiFi</h1></body></html>",
        "<?xml version=\"1.0\"?><html xmlns=\"http://www.w3.org/1999/xhtml\"><body/></html>",
        "{\"error\":\"login\"}",
        "",
        "OK",
        "<ListBucketResult>",
        "\u{1f}\u{8b}",
        "<Error><Message>no code</Message></Error>",
    ];

    fn head(status: u16) -> Head {
        Head {
            status,
            status_line: status.to_string(),
            content_type: String::new(),
            location: None,
            has_tag: true,
            has_length: true,
            has_range: true,
        }
    }

    fn list() -> Asked {
        Asked::List { prefix: "a & b/".to_owned() }
    }

    fn several(keys: &[&str]) -> Asked {
        Asked::DeleteSeveral { keys: keys.iter().map(|key| (*key).to_owned()).collect() }
    }

    fn check(asked: &Asked, status: u16, body: &str) -> Result<(), NotS3> {
        let head = head(status);
        if !head.is_success() {
            return asked.check_refusal(&head, body.as_bytes());
        }
        asked.check_head(&head)?;
        asked.check_body(&head, body.as_bytes(), "ward")
    }

    #[test]
    fn the_answers_of_a_store_are_taken() {
        check(&list(), 200, LISTING).unwrap();
        check(&list(), 200, "<ListBucketResult/>").unwrap();
        check(&Asked::Write, 200, "").unwrap();
        check(&Asked::Delete, 204, "").unwrap();
        check(&Asked::Read { part: true }, 206, "").unwrap();
        let deleted = "<DeleteResult><Deleted><Key>a&amp;b</Key></Deleted></DeleteResult>";
        check(&several(&["a&b"]), 200, deleted).unwrap();
        for asked in [list(), Asked::Write, Asked::Delete, Asked::Read { part: false }] {
            [301, 400, 401, 403, 404, 409, 412].iter().for_each(|&status| check(&asked, status, ERROR).unwrap());
            [405, 416, 429, 500, 502, 503].iter().for_each(|&status| check(&asked, status, "").unwrap());
        }
    }

    #[test]
    fn a_page_is_no_answer_to_anything() {
        for page in PAGES {
            for asked in [list(), Asked::Write, Asked::Delete, several(&["a"])] {
                let is_empty_write = matches!(asked, Asked::Write | Asked::Delete) && page.is_empty();
                assert_eq!(check(&asked, 200, page).is_ok(), is_empty_write, "{asked:?} {page:?}");
                for status in [302, 400, 401, 403, 404, 407, 409, 412, 511] {
                    let mut head = head(status);
                    head.location = (status == 302).then(|| "http://login.example/".to_owned());
                    assert!(asked.check_refusal(&head, page.as_bytes()).is_err(), "{asked:?} {status} {page:?}");
                }
                [201, 203, 206].iter().for_each(|&status| assert!(check(&asked, status, page).is_err()));
            }
        }
        for part in [false, true] {
            let (asked, status) = (Asked::Read { part }, if part { 206 } else { 200 });
            asked.check_head(&head(status)).unwrap();
            let wrong = [Head { has_tag: false, ..head(status) }, Head { has_length: false, ..head(status) }];
            wrong.iter().for_each(|head| assert!(asked.check_head(head).is_err()));
            assert!(asked.check_head(&head(406 - status)).is_err(), "a part for the whole, or the other way round");
            [204, 203, 302].iter().for_each(|&status| assert!(asked.check_head(&head(status)).is_err()));
        }
    }

    #[test]
    fn a_listing_of_something_else_or_in_part_is_none() {
        for (part, other) in [
            ("<Name>ward</Name>", "<Name>other</Name>"),
            ("<Prefix>a &amp; b/</Prefix>", "<Prefix>b/</Prefix>"),
            ("<IsTruncated>false", "<IsTruncated>true"),
            ("</ListBucketResult>", ""),
            ("</Contents></ListBucketResult>", ""),
            ("</ListBucketResult>", "</ListBucketResult><html/>"),
        ] {
            let listing = LISTING.replace(part, other);
            assert_ne!(listing, LISTING);
            assert!(check(&list(), 200, &listing).is_err(), "{listing}");
        }
        let more =
            LISTING.replace("<IsTruncated>false", "<NextContinuationToken>x</NextContinuationToken><IsTruncated>true");
        check(&list(), 200, &more).unwrap();
        let encoded = LISTING.replace("a &amp; b/</Prefix>", "a+%26%20b%2F</Prefix><EncodingType>url</EncodingType>");
        check(&list(), 200, &encoded).unwrap();
        let of_others = "<DeleteResult><Error><Key>b</Key><Code>X</Code></Error></DeleteResult>";
        assert!(check(&several(&["a"]), 200, of_others).is_err());
    }

    #[test]
    fn what_came_is_said_in_words() {
        for (page, words) in [
            (PAGES[0], "an HTML page, \"Guest WiFi\""),
            ("<html><head><title>\nLog in \u{7}</title>", "an HTML page"),
            (PAGES[1], "an HTML page"),
            (PAGES[2], "JSON"),
            (PAGES[3], "empty"),
            ("<Welcome/>", "<Welcome>"),
            (
                "Client sent an HTTP request to an HTTPS server.\n",
                "\"Client sent an HTTP request to an HTTPS server.\"",
            ),
            (PAGES[5], "isn't whole"),
        ] {
            let said = check(&list(), 200, page).unwrap_err().to_string();
            assert!(said.starts_with("200, ") && said.contains(words), "{said}");
        }
        let redirect = Head { location: Some("http://login.example/".to_owned()), ..head(302) };
        let said = list().check_refusal(&redirect, b"<html/>").unwrap_err().to_string();
        assert!(said.contains("http://login.example/"), "{said}");
    }
}
