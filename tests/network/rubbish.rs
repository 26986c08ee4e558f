//! Peers that send rubbish over each protocol while honest nodes go on.

use crate::{
    net::{PROTOCOLS, Rogue, Rubbish, attack},
    network_tests,
    node::{Homes, Node},
    samples::*,
};
use peerfold::{folder::SharedFolder, weights::Key};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::{io::AsyncWriteExt, net::TcpStream, net::UdpSocket};

fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// One node publishes, the other learns of it and fetches it.
async fn exchange(from: &Node, to: &Node, number: u64) {
    let entry = from.put(&Key::update(from.id(), number), &numbered(number), epoch(number)).await.unwrap();
    learn(&**to, &entry).await;
    assert_eq!(fetch(&**to, &entry).await.unwrap(), numbered(number));
}

network_tests! {
    async fn rubbish_on_any_protocol_disturbs_nobody() {
        let homes = Homes::new();
        let first = homes.node("first").open();
        let second = homes.node("second").knowing(&[first.address()]).open();
        let long = |byte| vec![byte; 1 << 16];
        let kinds = [
            Rubbish::Bytes(random_bytes(1, 50_000)),
            Rubbish::Bytes(vec![]),
            // Lengths as different protocols write them, of what is too long or never comes.
            Rubbish::Bytes(vec![0xff; 4]),
            Rubbish::HalfOpen(vec![0xff, 0xff, 0xff, 0x7f, 1, 2, 3]),
            Rubbish::HalfOpen(vec![200, 0, 0, 0, 1]),
            Rubbish::Endless(long(0)),
            Rubbish::Endless(random_bytes(2, 1 << 16)),
            Rubbish::Endless(long(0xff)),
        ];
        let mut number = 0;
        for protocol in PROTOCOLS {
            // All kinds at once, against both.
            let attacks: Vec<_> = kinds
                .iter()
                .flat_map(|kind| [&first, &second].map(|node| tokio::spawn(attack(node.address(), protocol, kind.clone()))))
                .collect();
            for _ in 0..2 {
                number += 1;
                exchange(&first, &second, number).await;
                exchange(&second, &first, number).await;
            }
            attacks.iter().for_each(|attack| attack.abort());
        }
        agree(&*first, &*second).await;
        assert_eq!(first.list("").await.unwrap().len(), 4);
    }

    async fn rubbish_by_gossip_disturbs_nobody() {
        let homes = Homes::new();
        let first = homes.node("first").open();
        let second = homes.node("second").knowing(&[first.address()]).open();
        first.meets(&second).await;
        let known = forge(1, "known", 1, homes.federation);
        let mut flipped = known.bytes().to_vec();
        *flipped.last_mut().unwrap() ^= 1;
        for round in 1..=4 {
            let mut rogue = Rogue::new(homes.federation);
            rogue.dial(&first.address());
            rogue.dial(&second.address());
            let rogue = tokio::spawn({
                let (flipped, known) = (flipped.clone(), known.bytes().to_vec());
                async move {
                    for seed in 0.. {
                        // Longer than any entry, some of it; some of it nearly an entry.
                        let rubbish = match seed % 3 {
                            0 => random_bytes(1000 * round + seed, (seed * 37 % 60_000) as usize),
                            1 => [flipped.clone(), random_bytes(1000 * round + seed, 2)].concat(),
                            _ => {
                                let mut damaged = known.clone();
                                let at = (round * 7919 + seed) as usize % damaged.len();
                                damaged[at] ^= 1 + (seed % 255) as u8;
                                damaged
                            }
                        };
                        rogue.gossip(&rubbish);
                        rogue.next().await;
                    }
                }
            });
            exchange(&first, &second, round).await;
            exchange(&second, &first, round).await;
            rogue.abort();
        }
        assert_eq!(first.list("").await.unwrap().len(), 4);
        assert!(first.conflicts().await.unwrap().is_empty());
    }

    /// A peer that doesn't even complete the handshake.
    async fn rubbish_instead_of_a_handshake_disturbs_nobody() {
        let homes = Homes::new();
        let first = homes.node("first").open();
        let second = homes.node("second").listening_on("/ip4/127.0.0.1/udp/0/quic-v1").knowing(&[first.address()]).open();
        second.meets(&first).await;
        let mut open = Vec::new();
        for seed in 0..100 {
            let mut stream = TcpStream::connect(first.socket()).await.unwrap();
            // It may be closed at the first byte.
            let _ = stream.write_all(&random_bytes(seed, seed as usize * 11)).await;
            open.push(stream);
            let datagrams = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let _ = datagrams.send_to(&random_bytes(seed, 1 + seed as usize * 12), second.socket()).await;
        }
        exchange(&first, &second, 1).await;
        exchange(&second, &first, 1).await;
        // A newcomer still gets in.
        let late = homes.node("late").knowing(&[first.address(), second.address()]).open();
        agree(&*late, &*first).await;
        late.meets(&first).await;
        late.meets(&second).await;
    }
}
