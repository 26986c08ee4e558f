//! What is known of a federation: the newest entry of each key.
//!
//! [`EntrySet`] is the state machine that every folder shares and that peers bring into agreement; a [`Board`] is one
//! that can be waited on; a [`Watch`] follows it. Two sets are compared by the [`Fingerprints`] of their buckets, and
//! the buckets that differ are fetched in pages.
//!
//! A [`Membership`] says who may take part at all, by a [`MemberList`] or without one. A [`SignedList`] is one
//! that an administrator has signed for all.

mod board;
mod buckets;
mod conflict;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod decoders;
mod entry_set;
mod figures;
mod limits;
mod member_list;
mod membership;
mod signed_list;
mod standing;

pub use self::{
    board::{Board, Watch},
    buckets::{BUCKETS, BucketSet, Fingerprints, Position},
    conflict::{Conflict, ProofError},
    entry_set::{EntrySet, FOLDS_TO_BE_KNOWN, Refused, UPDATES_KEPT},
    figures::EntryFigures,
    limits::{EntryLimits, MAX_AUTHORS, MAX_ENTRIES_PER_AUTHOR},
    member_list::{ListMistake, MAX_MEMBERS, MAX_NAME_CHARS, MemberList},
    membership::Membership,
    signed_list::{MAX_LIST_BYTES, SignedList, SignedListError},
    standing::{ShortHash, Standing},
};
