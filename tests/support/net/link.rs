//! How one direction of a forwarded connection moves bytes.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    sync::watch,
    time::Instant,
};

/// Most bytes that are read at once.
const PIECE: usize = 16 << 10;
/// Most bytes that are on their way in one direction; who sends more waits, as with a full router.
const UNDERWAY: usize = 4 << 20;

/// What a link does to the bytes that pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct Link {
    /// How long each byte takes at least.
    pub delay: Duration,
    /// Up to how much longer, drawn for each piece. Bytes stay in order.
    pub jitter: Duration,
    /// Seeds what is drawn.
    pub seed: u64,
    /// Bytes a second, each way. `None`: as many as there are.
    pub rate: Option<u64>,
}

impl Link {
    /// One that lets so many bytes a second through.
    pub fn slow(rate: u64) -> Self {
        Self { rate: Some(rate), ..Self::default() }
    }

    /// One with a delay, and jitter of half as much.
    pub fn late(delay: Duration, seed: u64) -> Self {
        Self { delay, jitter: delay / 2, seed, rate: None }
    }
}

/// A link, and whether anything passes.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    pub(super) link: Link,
    pub(super) cut: bool,
    pub(super) held: bool,
}

/// Moves bytes until the end of the stream, or until either side fails.
pub(super) async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    stream: u64,
    mut state: watch::Receiver<State>,
    counter: &AtomicU64,
) {
    let mut draws = ChaCha8Rng::seed_from_u64(state.borrow().link.seed);
    draws.set_stream(stream);
    let mut underway: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let (mut bytes, mut ended, mut free) = (0, false, Instant::now());
    while !(ended && underway.is_empty()) {
        let State { link, held, .. } = *state.borrow_and_update();
        let mut piece = vec![0; PIECE];
        let due = underway.front().map(|(due, _)| (*due).max(free));
        tokio::select! {
            read = from.read(&mut piece), if !ended && bytes < UNDERWAY => match read {
                Ok(0) | Err(_) => ended = true,
                Ok(read) => {
                    piece.truncate(read);
                    bytes += read;
                    let late = link.delay + link.jitter.mul_f64(draws.random());
                    let before = underway.back().map_or(Instant::now(), |(due, _)| *due);
                    underway.push_back((before.max(Instant::now() + late), piece));
                }
            },
            () = tokio::time::sleep_until(due.unwrap_or(free)), if due.is_some() && !held => {
                let Some((_, piece)) = underway.pop_front() else { unreachable!() };
                if to.write_all(&piece).await.is_err() {
                    return;
                }
                bytes -= piece.len();
                counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
                let takes = link.rate.map(|rate| Duration::from_secs_f64(piece.len() as f64 / rate as f64));
                free = free.max(Instant::now()) + takes.unwrap_or_default();
            }
            changed = state.changed() => if changed.is_err() { return },
        }
    }
    let _ = to.shutdown().await;
}
