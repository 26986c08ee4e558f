//! A listener with a thread and a runtime of its own, which can be stopped and started again on the same port.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::PATIENCE;

/// Commands that may be queued. The sender waits until its command is carried out.
const ORDERS: usize = 8;

pub struct Host {
    address: SocketAddr,
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Stop(mpsc::Sender<()>),
    Resume(mpsc::Sender<()>),
}

impl Host {
    /// Listens on a free port of 127.0.0.1 and runs `serve` for each connection.
    pub fn start<S, F>(serve: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (orders, inbox) = channel(ORDERS);
        let (started, address) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("bucket".into())
            .spawn(move || {
                let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(run(serve, inbox, started));
                runtime.shutdown_timeout(Duration::from_secs(5));
            })
            .unwrap();
        Self { address: address.recv_timeout(PATIENCE).expect("listens"), orders: Some(orders), thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns once the listener and all connections are closed.
    pub fn stop(&self) {
        self.order(Order::Stop);
    }

    /// Returns once the port is open again.
    pub fn resume(&self) {
        self.order(Order::Resume);
    }

    fn order(&self, order: impl FnOnce(mpsc::Sender<()>) -> Order) {
        let (done, wait) = mpsc::channel();
        self.orders.as_ref().unwrap().try_send(order(done)).expect("the thread runs, and nobody else gives orders");
        wait.recv_timeout(PATIENCE).expect("the order is carried out in time");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.orders = None;
        let outcome = self.thread.take().unwrap().join();
        if !thread::panicking() {
            outcome.expect("the thread ended well");
        }
    }
}

async fn run<S, F>(serve: S, mut orders: Receiver<Order>, started: mpsc::Sender<SocketAddr>)
where
    S: Fn(TcpStream) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let (port, listener) = first_listener().unwrap();
    let address = listener.local_addr().unwrap();
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    started.send(address).unwrap();
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Stop(done)) => {
                    listener = None;
                    connections.shutdown().await;
                    let _ = done.send(());
                }
                Some(Order::Resume(done)) => {
                    if listener.is_none() {
                        listener = Some(listen_again(address).await);
                    }
                    let _ = done.send(());
                }
                None => break,
            },
            stream = accept(listener.as_ref()) => {
                // Small answers would wait for acknowledgements otherwise.
                let _ = stream.set_nodelay(true);
                connections.spawn(serve(stream));
            }
            Some(_) = connections.join_next() => {}
        }
    }
    connections.shutdown().await;
    drop(port);
}

async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // The client gave up already, or the process is out of files, which other tests may close.
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Keeps the port besides listening on it: while the listener is closed, the system would give it to someone else.
/// Linux lets a second socket have the port as long as only one of them listens.
fn first_listener() -> io::Result<(Option<TcpSocket>, TcpListener)> {
    let port = bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let address = port.local_addr()?;
    match bind(address).and_then(|socket| socket.listen(1024)) {
        Ok(listener) => Ok((Some(port), listener)),
        Err(_) => Ok((None, port.listen(1024)?)),
    }
}

async fn listen_again(address: SocketAddr) -> TcpListener {
    let deadline = Instant::now() + PATIENCE / 2;
    loop {
        match bind(address).and_then(|socket| socket.listen(1024)) {
            Ok(listener) => return listener,
            Err(error) if Instant::now() > deadline => panic!("{address} can't be had again: {error}"),
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
