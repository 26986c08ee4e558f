//! Connections that others are making over TCP, by address: where one address makes too many, its oldest is given up for
//! the new one, first of those on which nothing was said. So whoever says nothing, on any number of them, can't keep out who
//! comes from the same address and speaks.

use super::room::host;
use futures::task::AtomicWaker;
use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

/// More bytes than the dialing side sends in a whole handshake and fewer than in the moments after it. Whoever sends so
/// many that pass has made its connection, which has a place of its own.
const HANDSHAKE_BYTES: usize = 512;

/// The queue of each address, the oldest first. Its clones share them.
#[derive(Debug, Clone)]
pub(super) struct Gates {
    most: usize,
    queues: Arc<Mutex<BTreeMap<IpAddr, VecDeque<Arc<Gate>>>>>,
    given_up: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Gate {
    is_given_up: AtomicBool,
    has_spoken: AtomicBool,
    waker: AtomicWaker,
}

/// A connection that is being made. It leaves its queue when this is dropped.
#[derive(Debug)]
pub(super) struct Making {
    gates: Gates,
    address: IpAddr,
    gate: Arc<Gate>,
    read: usize,
}

/// Why it isn't made.
#[derive(Debug, thiserror::Error)]
#[error("its address is making too many connections at once, and this was the oldest")]
struct GivenUp;

impl Gates {
    /// For so many of one address at once.
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), queues: Arc::default(), given_up: Arc::default() }
    }

    /// Somebody begins to make a connection.
    pub(super) fn enter(&self, address: IpAddr) -> Making {
        let (address, gate) = (host(address), Arc::new(Gate::default()));
        self.queue(address, gate.clone());
        Making { gates: self.clone(), address, gate, read: 0 }
    }

    /// As the newest of its address. Where there are too many, the oldest that is silent goes, or else the oldest.
    fn queue(&self, address: IpAddr, gate: Arc<Gate>) {
        let mut queues = self.lock();
        let queue = queues.entry(address).or_default();
        queue.push_back(gate);
        if queue.len() > self.most {
            let older = queue.len() - 1;
            let silent = queue.iter().take(older).position(|gate| !gate.has_spoken.load(Ordering::Relaxed));
            if let Some(gone) = queue.remove(silent.unwrap_or_default()) {
                self.given_up.fetch_add(1, Ordering::Relaxed);
                gone.is_given_up.store(true, Ordering::Release);
                gone.waker.wake();
            }
        }
    }

    /// How many were given up so far.
    pub(super) fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, VecDeque<Arc<Gate>>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Making {
    /// An error if it was given up; wakes the task once it is.
    pub(super) fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        // In this order, or a wake in between would be lost.
        self.gate.waker.register(cx.waker());
        match self.is_given_up() {
            true => Err(io::Error::new(io::ErrorKind::ConnectionAborted, GivenUp)),
            false => Ok(()),
        }
    }

    fn is_given_up(&self) -> bool {
        self.gate.is_given_up.load(Ordering::Acquire)
    }

    /// Ends with an error when it is given up.
    pub(super) async fn given_up(&self) -> io::Error {
        poll_fn(|cx| self.check(cx).map_or_else(Poll::Ready, |()| Poll::Pending)).await
    }

    /// So many bytes more have come. Says whether it is made. One that was to be given up before anybody had looked whether
    /// it says something is the newest again.
    pub(super) fn is_made_by(&mut self, bytes: usize) -> bool {
        if bytes > 0 && !self.gate.has_spoken.swap(true, Ordering::Relaxed) && self.is_given_up() {
            self.gate.is_given_up.store(false, Ordering::Release);
            self.gates.given_up.fetch_sub(1, Ordering::Relaxed);
            self.gates.queue(self.address, self.gate.clone());
        }
        self.read = self.read.saturating_add(bytes);
        self.read >= HANDSHAKE_BYTES
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        let mut queues = self.gates.lock();
        if let Some(queue) = queues.get_mut(&self.address) {
            queue.retain(|gate| !Arc::ptr_eq(gate, &self.gate));
            if queue.is_empty() {
                queues.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures::FutureExt;

    fn is_given_up(making: &Making) -> bool {
        making.given_up().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_of_an_address_goes_for_the_newest_and_no_other() {
        let (gates, [crowd, other]) = (Gates::new(3), ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap()));
        let neighbour = gates.enter(other);
        let mut making: VecDeque<Making> = (0..3).map(|_| gates.enter(crowd)).collect();
        assert!(making.iter().all(|making| !is_given_up(making)));
        for round in 1..=10 {
            making.push_back(gates.enter(crowd));
            let oldest = making.pop_front().unwrap();
            assert!(is_given_up(&oldest) && making.iter().all(|making| !is_given_up(making)));
            assert_eq!(gates.given_up(), round);
        }
        assert!(!is_given_up(&neighbour));
        // One that is made, or failed, leaves its place.
        drop(making.pop_back());
        making.push_back(gates.enter(crowd));
        assert!(making.iter().all(|making| !is_given_up(making)));
        drop((making, neighbour));
        assert!(gates.lock().is_empty());
    }

    /// Whenever it is given up while it begins to wait.
    #[test]
    fn who_has_said_something_stays_as_long_as_there_are_silent_ones() {
        let (gates, crowd) = (Gates::new(3), "10.0.0.1".parse().unwrap());
        let mut speaks = gates.enter(crowd);
        speaks.is_made_by(1);
        let mut silent: Vec<Making> = (0..10).map(|_| gates.enter(crowd)).collect();
        assert!(!is_given_up(&speaks));
        assert_eq!(silent.iter().filter(|making| is_given_up(making)).count(), 8);
        // What has come before anybody looked counts.
        silent[0].is_made_by(1);
        assert!(!is_given_up(&silent[0]) && is_given_up(&silent[8]));
        // A little is said by a crowd, too: then it is the oldest that goes.
        silent[9].is_made_by(1);
        let newest = gates.enter(crowd);
        assert!(is_given_up(&speaks) && !is_given_up(&newest));
        assert_eq!(gates.given_up(), 9);
    }

    #[test]
    fn who_waits_is_woken_when_it_is_given_up() {
        for _ in 0..500 {
            let (gates, crowd) = (Gates::new(1), "10.0.0.1".parse().unwrap());
            let oldest = gates.enter(crowd);
            std::thread::scope(|scope| {
                let waiting = scope.spawn(move || futures::executor::block_on(oldest.given_up()));
                let newest = gates.enter(crowd);
                waiting.join().unwrap();
                assert!(!is_given_up(&newest));
            });
        }
    }

    #[test]
    fn a_connection_is_made_by_what_has_come() {
        let mut making = Gates::new(1).enter([127, 0, 0, 1].into());
        assert!(!making.is_made_by(HANDSHAKE_BYTES - 1) && making.is_made_by(1));
    }
}
