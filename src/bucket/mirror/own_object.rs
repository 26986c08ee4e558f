//! One of a node's own objects in a bucket: what its writer knows of it, and what listings show of it.

use super::Mark;
use std::time::Duration;

/// How long one of our objects must be missing from all listings before it is written again: a store may show it late.
pub(super) const MISSED: Duration = Duration::from_secs(30);
/// The same for an object that a listing has shown before.
const MISSED_AGAIN: Duration = Duration::from_secs(3);
/// After this many writes whose tags no listing shows, and none whose tag one does, the tags of a store's writes mean
/// nothing.
const TAGS_DIFFER: u32 = 3;

/// What the writer of an object knows of it.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    /// Bytes.
    pub(crate) size: u64,
    /// The tag of its content, if the store gave one.
    pub(crate) tag: Option<String>,
    /// When it was there, after the same moment as the times of listings.
    pub(crate) at: Duration,
}

/// One of our own objects in the bucket.
pub(super) struct Own {
    pub(super) written: Written,
    /// `None` until a listing shows it as it was written.
    pub(super) mark: Option<Mark>,
    /// Since when listings have lacked it.
    pub(super) missed: Option<Duration>,
}

/// Whether a store's listings show the tags that its writes give: there may be stores where they don't.
#[derive(Default)]
pub(super) struct Tags {
    pub(super) agreed: bool,
    differed: u32,
}

impl Own {
    pub(super) fn new(written: Written) -> Self {
        Self { written, mark: None, missed: None }
    }

    /// One that an earlier process has written.
    pub(super) fn found(size: u64, mark: Option<Mark>) -> Self {
        Self { written: Written { size, tag: None, at: Duration::ZERO }, mark, missed: None }
    }

    /// Whether it is still what was written, by what a listing shows of it that began then.
    pub(super) fn is_as_it_was(&mut self, shown: Option<&Mark>, began: Duration, tags: &mut Tags) -> bool {
        if began < self.written.at {
            // The object that was there before.
            return true;
        }
        let Some(shown) = shown else {
            let patience = if self.mark.is_some() { MISSED_AGAIN } else { MISSED };
            return began.saturating_sub(*self.missed.get_or_insert(began)) < patience;
        };
        self.missed = None;
        match &self.mark {
            Some(mark) => mark == shown,
            None if shown.size != self.written.size
                || tags.differ(self.written.tag.as_deref(), shown.tag.as_deref()) =>
            {
                false
            }
            None => {
                self.mark = Some(shown.clone());
                true
            }
        }
    }
}

/// A tag without the quotes and prefixes that writes and listings put around it.
pub(crate) fn plain(tag: &str) -> &str {
    tag.trim_start_matches("W/").trim_matches('"')
}

impl Tags {
    /// Whether a write's tag and a listing's say that the object isn't what was written.
    pub(super) fn differ(&mut self, written: Option<&str>, shown: Option<&str>) -> bool {
        let (Some(written), Some(shown)) = (written.map(plain), shown.map(plain)) else { return false };
        if written == shown {
            self.agreed = true;
            return false;
        }
        self.differed = self.differed.saturating_add(1);
        self.agreed || self.differed <= TAGS_DIFFER
    }
}
