//! The line of a node: what it sends at once shares its upload, a piece of each in turn.

use super::Event;
use std::{collections::VecDeque, time::Duration};

/// What is sent of one message before it is another's turn: a Noise frame and what belongs to it.
const PIECE: u64 = 16 << 10;

struct Transfer {
    left: u64,
    to: usize,
    event: Event,
}

/// What a node has to send.
#[derive(Default)]
pub struct Uplink {
    waiting: VecDeque<Transfer>,
    /// A piece of the first is being sent.
    busy: bool,
}

impl Uplink {
    /// Adds a message. True if nothing else is being sent, so that somebody has to say when its first piece is out.
    pub(super) fn push(&mut self, bytes: u64, to: usize, event: Event) -> bool {
        self.waiting.push_back(Transfer { left: bytes, to, event });
        !std::mem::replace(&mut self.busy, true)
    }

    /// How long the piece takes that is being sent.
    pub fn piece(&self, rate: u64) -> Option<Duration> {
        let bytes = self.waiting.front()?.left.min(PIECE);
        Some(Duration::from_secs_f64(bytes as f64 / rate as f64))
    }

    /// The piece is out. Gives the message, with where it goes, if that was the last one of it.
    pub(super) fn sent(&mut self) -> Option<(usize, Event)> {
        let mut first = self.waiting.pop_front()?;
        first.left = first.left.saturating_sub(PIECE);
        let whole = first.left == 0;
        let out = if whole {
            Some((first.to, first.event))
        } else {
            self.waiting.push_back(first);
            None
        };
        self.busy = !self.waiting.is_empty();
        out
    }

    /// The node is dead.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.busy = false;
    }
}
