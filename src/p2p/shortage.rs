//! Says that connections are being refused, and why, at most once a minute.

use super::{admission::NotAdmitted, room::NoRoom};
use crate::descriptors;
use libp2p::{connection_limits::Exceeded, swarm::ListenError};
use std::{io, time::Duration};
use tokio::time::Instant;

const SAID_EVERY: Duration = Duration::from_secs(60);

/// Connections refused by the system or by a limit of this process.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    gathered: Gathered,
}

/// Connections refused because the peer may not take part. No warning: on a network with other federations it is as it
/// should be. But a site that was left out of the list by mistake is found there.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    gathered: Gathered,
}

/// Gathers what happens often into one line a minute.
#[derive(Debug, Default)]
struct Gathered {
    /// When the last line was written.
    said: Option<Instant>,
    /// What has happened since then.
    unsaid: u64,
}

impl Shortage {
    /// A listener could not take a connection.
    pub(super) fn not_accepted(&mut self, error: &io::Error) {
        let Some(times) = self.gathered.is_to_be_said(Instant::now()) else { return };
        if descriptors::exhausted(error) {
            let advice = descriptors::advice();
            tracing::warn!(times, "out of file descriptors, so that nobody can connect: {advice}");
        } else {
            tracing::warn!(times, %error, "a connection could not be taken");
        }
    }

    /// An incoming connection has failed. It is worth a warning if it was refused because the limit was reached: `most`
    /// and `most_pending`, where file descriptors don't set a lower one.
    pub(super) fn refused(&mut self, error: &ListenError, most: u32, most_pending: u32) {
        let ListenError::Denied { cause } = error else { return };
        if let Some(no_room) = cause.downcast_ref::<NoRoom>() {
            let Some(times) = self.gathered.is_to_be_said(Instant::now()) else { return };
            let few_descriptors = match no_room {
                NoRoom::All(limit) => *limit < most as usize,
                NoRoom::HalfOpen(_) => affordable_pending(most_pending) < most_pending,
                _ => false,
            };
            if few_descriptors {
                let advice = descriptors::advice();
                tracing::warn!(times, "too few file descriptors for more connections, which are refused: {advice}");
            } else {
                tracing::warn!(times, "connections are refused: {no_room}");
            }
            return;
        }
        let Some(limit) = cause.downcast_ref::<Exceeded>().map(Exceeded::limit) else { return };
        let limits = [(affordable(most), most), (affordable_pending(most_pending), most_pending)];
        let Some((_, most)) = limits.into_iter().find(|(affordable, _)| *affordable == limit) else {
            // A peer's own connections.
            return;
        };
        let Some(times) = self.gathered.is_to_be_said(Instant::now()) else { return };
        if limit < most {
            let advice = descriptors::advice();
            tracing::warn!(times, limit, "too few file descriptors for more connections, which are refused: {advice}");
        } else {
            tracing::warn!(times, limit, "there are as many connections as may be; more are refused");
        }
    }
}

impl Strangers {
    /// An incoming connection has failed. It is worth a line if its peer is not on the allow-list.
    pub(super) fn refused(&mut self, error: &ListenError) {
        let ListenError::Denied { cause } = error else { return };
        let Some(NotAdmitted { peer }) = cause.downcast_ref() else { return };
        if let Some(times) = self.gathered.is_to_be_said(Instant::now()) {
            tracing::info!(times, last = %peer, "refused connections of peers that are not on the allow-list");
        }
    }
}

impl Gathered {
    /// How often it has happened, if a line is due now.
    fn is_to_be_said(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        if self.said.is_some_and(|said| now.duration_since(said) < SAID_EVERY) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// At most this many connections, or fewer if file descriptors are short: connections may use three quarters of them.
pub(super) fn affordable(connections: u32) -> u32 {
    connections.min(share(3, 4))
}

/// At most this many handshakes at once, or fewer if file descriptors are short: handshakes may use an eighth of them.
pub(super) fn affordable_pending(handshakes: u32) -> u32 {
    handshakes.min(share(1, 8))
}

fn share(part: u64, of: u64) -> u32 {
    u32::try_from(descriptors::limit().saturating_mul(part) / of).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_a_minute() {
        let (mut gathered, began) = (Gathered::default(), Instant::now());
        assert_eq!(gathered.is_to_be_said(began), Some(1));
        for second in 0..7 {
            assert_eq!(gathered.is_to_be_said(began + Duration::from_secs(second)), None);
        }
        assert_eq!(gathered.is_to_be_said(began + SAID_EVERY), Some(8));
    }
}
