//! Connections that others are making over TCP, by address: where one address makes too many, its oldest is given up for
//! the new one. So whoever says nothing, on any number of them, can't keep out who comes from the same address and speaks.

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
        let mut queues = self.lock();
        let queue = queues.entry(address).or_default();
        queue.push_back(gate.clone());
        let oldest = if queue.len() > self.most { queue.pop_front() } else { None };
        drop(queues);
        if let Some(oldest) = oldest {
            self.given_up.fetch_add(1, Ordering::Relaxed);
            oldest.is_given_up.store(true, Ordering::Release);
            oldest.waker.wake();
        }
        Making { gates: self.clone(), address, gate, read: 0 }
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
        match self.gate.is_given_up.load(Ordering::Acquire) {
            true => Err(io::Error::new(io::ErrorKind::ConnectionAborted, GivenUp)),
            false => Ok(()),
        }
    }

    /// Ends with an error when it is given up.
    pub(super) async fn given_up(&self) -> io::Error {
        poll_fn(|cx| self.check(cx).map_or_else(Poll::Ready, |()| Poll::Pending)).await
    }

    /// So many bytes more have come. Says whether it is made.
    pub(super) fn is_made_by(&mut self, bytes: usize) -> bool {
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
