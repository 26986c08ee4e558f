//! The tests' own forwarder does what the other tests rely on.

use crate::net::{Forwarder, Link};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Both ends of a connection through a forwarder.
async fn connected(link: Link) -> (Forwarder, TcpListener, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let forwarder = Forwarder::start(listener.local_addr().unwrap(), link).await;
    let near = TcpStream::connect(forwarder.address()).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    (forwarder, listener, near, far)
}

async fn ended(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 16]).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn bytes_pass_in_order_and_are_counted() {
    for link in [Link::default(), Link::late(Duration::from_millis(2), 7)] {
        let (forwarder, _listener, mut near, mut far) = connected(link).await;
        let sent: Vec<u8> = (0..2_000_000u32).map(|at| (at / 7) as u8).collect();
        let expected = sent.clone();
        let sending = tokio::spawn(async move {
            near.write_all(&sent).await.unwrap();
            near
        });
        let mut got = vec![0; expected.len()];
        far.read_exact(&mut got).await.unwrap();
        assert!(got == expected);
        let mut near = sending.await.unwrap();
        far.write_all(b"answer").await.unwrap();
        near.read_exact(&mut got[..6]).await.unwrap();
        assert_eq!(&got[..6], b"answer");
        assert_eq!((forwarder.sent(), forwarder.received()), (2_000_000, 6));
        drop(near);
        assert!(ended(&mut far).await, "the end passes too");
    }
}

#[tokio::test]
async fn delays_and_rates_are_kept() {
    let (forwarder, _listener, mut near, mut far) = connected(Link::late(Duration::from_millis(100), 1)).await;
    let began = Instant::now();
    near.write_all(b"x").await.unwrap();
    far.read_exact(&mut [0]).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(100));
    forwarder.change(Link::slow(1_000_000));
    let began = Instant::now();
    near.write_all(&[0; 200_000]).await.unwrap();
    far.read_exact(&mut [0; 200_000]).await.unwrap();
    // The last piece doesn't wait for itself.
    assert!(began.elapsed() >= Duration::from_millis(170), "{:?}", began.elapsed());
}

#[tokio::test]
async fn cut_held_and_restored() {
    let (forwarder, listener, mut near, mut far) = connected(Link::default()).await;
    forwarder.hold();
    near.write_all(b"later").await.unwrap();
    // Nothing comes however long one waits; what is waited for here is too short to prove it, and long enough to show.
    assert!(tokio::time::timeout(Duration::from_millis(50), far.read_exact(&mut [0; 5])).await.is_err());
    forwarder.restore();
    let mut got = [0; 5];
    far.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"later");
    forwarder.cut();
    assert!(ended(&mut near).await && ended(&mut far).await);
    let mut refused = TcpStream::connect(forwarder.address()).await.unwrap();
    assert!(ended(&mut refused).await);
    forwarder.restore();
    let mut near = TcpStream::connect(forwarder.address()).await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    near.write_all(b"again").await.unwrap();
    far.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"again");
}
