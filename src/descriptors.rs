//! File descriptors: how many this process may have, and which files stay open for long.

mod shared_file;

pub(crate) use self::shared_file::SharedFile;

use std::{
    error::Error,
    io,
    sync::atomic::{AtomicU64, Ordering},
};

/// What this process may have at once where the system doesn't say.
const ASSUMED: u64 = 256;
/// One in this many descriptors goes to files that are kept open.
const KEPT_SHARE: u64 = 4;
/// Most files kept open, however many the system allows.
const MOST_KEPT: u64 = 4096;
/// The system's numbers for "too many open files", of this process and of all together. Unix systems agree on them.
const EXHAUSTED: [i32; 2] = [24, 23];

/// Files that are kept open.
static KEPT: AtomicU64 = AtomicU64::new(0);

/// Raises the soft limit to the hard one: shells set the soft one to 1,024 or less, for programs that can't have more.
/// It is no error if the system refuses; whatever needs descriptors says so when it runs out.
#[cfg(feature = "bootstrap")]
pub(crate) fn raise_limit() {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
}

/// How many this process may have at once.
pub(crate) fn limit() -> u64 {
    #[cfg(unix)]
    let soft = rlimit::Resource::NOFILE.get_soft().ok();
    #[cfg(not(unix))]
    let soft = None;
    soft.unwrap_or(ASSUMED)
}

/// Whether an error, or one of its causes, says that there are no descriptors left.
pub(crate) fn exhausted(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let number = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        // Libraries wrap the system's error in their own, which only tell its text.
        let told = || EXHAUSTED.iter().any(|number| error.to_string().contains(&format!("(os error {number})")));
        if number.is_some_and(|number| EXHAUSTED.contains(&number)) || (cfg!(unix) && number.is_none() && told()) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What to do when there are none left, as part of a sentence.
pub(crate) fn advice() -> String {
    let limit = limit();
    format!(
        "this process may have {limit} open files and connections; raise that with `ulimit -n`, or LimitNOFILE= in a \
         systemd unit"
    )
}

/// Permission to keep one file open for as long as this lives.
struct Kept;

impl Kept {
    /// `None` if so many are kept that the others must be closed between reads.
    fn new() -> Option<Self> {
        let most = (limit() / KEPT_SHARE).min(MOST_KEPT);
        let taken = KEPT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |kept| (kept < most).then_some(kept + 1));
        // Only created then, because dropping it gives the permission back.
        match taken {
            Ok(_) => Some(Self),
            Err(_) => None,
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        KEPT.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_more_files_are_kept_however_often_it_is_tried() {
        let most = (limit() / KEPT_SHARE).min(MOST_KEPT);
        let tried: Vec<Option<Kept>> = (0..2 * most + 8).map(|_| Kept::new()).collect();
        assert!(tried.iter().flatten().count() as u64 <= most);
    }

    #[test]
    fn a_shortage_is_known_through_other_errors() {
        #[derive(Debug, thiserror::Error)]
        #[error("accepting failed")]
        struct Outer(#[source] io::Error);

        for number in EXHAUSTED {
            let error = || io::Error::from_raw_os_error(number);
            assert!(exhausted(&error()) && exhausted(&Outer(error())) && exhausted(&io::Error::other(error())));
            assert!(exhausted(&io::Error::other(error().to_string())));
        }
        assert!(!exhausted(&io::Error::from_raw_os_error(2)) && !exhausted(&io::Error::other("os error 242")));
    }
}
