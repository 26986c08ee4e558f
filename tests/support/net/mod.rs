//! Links between nodes for the network tests, and peers that disturb them.
//!
//! The kernels that the tests run on can't delay or lose packets, so a TCP connection that is to be slow, late or cut
//! goes through a [`Forwarder`].

// Not every program uses all of it.
#![allow(dead_code, unused_imports)]

mod announcer;
mod hoarder;
mod link;
mod namespaces;
mod plant;
mod rogue;
mod rubbish;
mod shaped;

pub use self::{
    announcer::Announcer,
    hoarder::hoard,
    link::Link,
    namespaces::Namespaces,
    plant::plant,
    rogue::{Happened, Rogue, random_fingerprints},
    rubbish::{PROTOCOLS, Rubbish, attack},
    shaped::Switch,
};

use link::{State, carry};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};

/// Forwards TCP connections on the loopback to one address, as well as its [`Link`] allows. Ends when dropped.
pub struct Forwarder {
    address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    counters: Arc<[AtomicU64; 2]>,
    accepting: AbortHandle,
}

impl Forwarder {
    /// Starts one, inside a runtime.
    pub async fn start(target: SocketAddr, link: Link) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(watch::Sender::new(State { link, cut: false, held: false }));
        let counters = Arc::<[AtomicU64; 2]>::default();
        let accepting = tokio::spawn(accept(listener, target, state.clone(), counters.clone())).abort_handle();
        Self { address, state, counters, accepting }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection, and each new one at once.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cut = true);
    }

    /// Lets nothing through, with all connections open: what a cable does that was pulled.
    pub fn hold(&self) {
        self.state.send_modify(|state| state.held = true);
    }

    /// Undoes [`cut`](Self::cut) and [`hold`](Self::hold).
    pub fn restore(&self) {
        self.state.send_modify(|state| (state.cut, state.held) = (false, false));
    }

    /// What passes from now on passes like this.
    pub fn change(&self, link: Link) {
        self.state.send_modify(|state| state.link = link);
    }

    /// Bytes that have passed to the target.
    pub fn sent(&self) -> u64 {
        self.counters[0].load(Ordering::Relaxed)
    }

    /// Bytes that have come from the target.
    pub fn received(&self) -> u64 {
        self.counters[1].load(Ordering::Relaxed)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    state: Arc<watch::Sender<State>>,
    counters: Arc<[AtomicU64; 2]>,
) {
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    for number in 0.. {
        let Ok((near, _)) = listener.accept().await else { continue };
        if !state.borrow().cut {
            connections.spawn(forward(near, target, number, state.subscribe(), counters.clone()));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(
    near: TcpStream,
    target: SocketAddr,
    number: u64,
    state: watch::Receiver<State>,
    counters: Arc<[AtomicU64; 2]>,
) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    for stream in [&near, &far] {
        stream.set_nodelay(true).unwrap();
    }
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let both = async {
        // Each way has jitter of its own.
        tokio::join!(
            carry(near_in, far_out, 2 * number, state.clone(), &counters[0]),
            carry(far_in, near_out, 2 * number + 1, state.clone(), &counters[1]),
        )
    };
    let mut until = state.clone();
    tokio::select! {
        _ = both => {}
        _ = until.wait_for(|state| state.cut) => {}
    }
}
