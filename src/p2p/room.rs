//! Who may be connected when there is not room for everybody: a state machine without I/O.

use super::trust::Standing;
use libp2p_identity::PeerId;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Most {
    /// In all.
    pub(super) all: usize,
    /// Of strangers.
    pub(super) strangers: usize,
    /// From one address.
    pub(super) per_address: usize,
    /// From one network of addresses: /24, or /48 of IPv6.
    pub(super) per_network: usize,
    /// By way of relays.
    pub(super) relayed: usize,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoRoom {
    /// All places are taken by peers that are kept.
    #[error("all {0} connections are taken")]
    All(usize),
    /// Those for strangers.
    #[error("all {0} connections for peers whose updates this node hasn't folded are taken")]
    Strangers(usize),
    /// Those of its address.
    #[error("there are {0} connections from its address")]
    Address(usize),
    /// Those of its network.
    #[error("there are {0} connections from its network")]
    Network(usize),
    /// Those by way of relays.
    #[error("there are {0} connections by way of relays")]
    Relayed(usize),
    /// Those of its address that are being made.
    #[error("{0} connections from its address are being made")]
    HalfOpen(usize),
}

/// The first bits of an address, by which those of one site are told: a site of IPv6 has a /48.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Network(IpAddr);

impl Network {
    fn of(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() & !0xff).into()),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 80 << 80)),
        })
    }
}

/// An IPv6 host has as many addresses as it likes in its /64, so that counts as one address.
pub(super) fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        ip @ IpAddr::V4(_) => ip,
    }
}

/// Connections that others are making, by address: who says nothing on any number of them takes only so many places of
/// those being made. A state machine without I/O.
#[derive(Debug)]
pub(super) struct HalfOpen<Id> {
    per_address: usize,
    addresses: BTreeMap<Id, IpAddr>,
}

impl<Id: Copy + Ord> HalfOpen<Id> {
    pub(super) fn new(per_address: usize) -> Self {
        Self { per_address, addresses: BTreeMap::new() }
    }

    /// Somebody begins to make a connection.
    pub(super) fn begins(&mut self, id: Id, address: IpAddr) -> Result<(), NoRoom> {
        let address = host(address);
        if self.addresses.values().filter(|other| **other == address).count() >= self.per_address {
            return Err(NoRoom::HalfOpen(self.per_address));
        }
        self.addresses.insert(id, address);
        Ok(())
    }

    /// It is made, or won't be.
    pub(super) fn ends(&mut self, id: Id) {
        self.addresses.remove(&id);
    }
}

/// The connections, by an id that the caller has for each.
///
/// Where there is no room for one more, the oldest connection of somebody who isn't trusted makes it, among those that
/// take the room, and of those who have published something only if there is no other. So idle strangers can't keep
/// anybody out, and whoever comes again and again, under new names, can't push out who is trusted.
pub(super) struct Room<Id> {
    most: Most,
    /// In the order in which they were made.
    connections: BTreeMap<u64, Connection<Id>>,
    last: u64,
}

/// Which connections a limit is about.
type Concerns<'a, Id> = &'a dyn Fn(&Connection<Id>) -> bool;

struct Connection<Id> {
    id: Id,
    peer: PeerId,
    from: Origin,
}

/// Where a connection comes from, or leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// An address.
    Address(IpAddr),
    /// A relay, which isn't counted: all who come by it would be one, and behind it is an address that nobody knows.
    Relay,
    /// Something else that can't be counted.
    Elsewhere,
}

impl Origin {
    fn address(self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address),
            Self::Relay | Self::Elsewhere => None,
        }
    }
}

impl<Id: Copy + Eq> Room<Id> {
    pub(super) fn new(most: Most) -> Self {
        Self { most, connections: BTreeMap::new(), last: 0 }
    }

    pub(super) fn change(&mut self, most: Most) {
        self.most = most;
    }

    /// Takes in a connection, and says which one is to be closed for it, if any.
    pub(super) fn enter(
        &mut self,
        id: Id,
        peer: PeerId,
        from: Origin,
        standing: impl Fn(&PeerId) -> Standing,
    ) -> Result<Option<(PeerId, Id)>, NoRoom> {
        let from = match from {
            Origin::Address(address) => Origin::Address(host(address)),
            other => other,
        };
        let address = from.address();
        let trusted = standing(&peer) == Standing::Trusted;
        let is_stranger = |connection: &Connection<Id>| standing(&connection.peer) < Standing::Trusted;
        let same_address = |connection: &Connection<Id>| address.is_some() && connection.from == from;
        let network = address.map(Network::of);
        let same_network =
            |connection: &Connection<Id>| network.is_some() && connection.from.address().map(Network::of) == network;
        let is_relayed = |connection: &Connection<Id>| connection.from == Origin::Relay;
        // From the narrowest limit to the widest: what makes room in a narrow one makes room in the wide ones as well.
        let limits: [(NoRoom, usize, bool, Concerns<'_, Id>); 5] = [
            (NoRoom::Relayed(self.most.relayed), self.most.relayed, from == Origin::Relay, &is_relayed),
            (NoRoom::Address(self.most.per_address), self.most.per_address, true, &same_address),
            (NoRoom::Network(self.most.per_network), self.most.per_network, true, &same_network),
            (NoRoom::Strangers(self.most.strangers), self.most.strangers, !trusted, &is_stranger),
            (NoRoom::All(self.most.all), self.most.all, true, &|_| true),
        ];
        let mut gone = None;
        for (refusal, most, counts, concerns) in limits {
            let there =
                self.connections.iter().filter(|(number, connection)| Some(**number) != gone && concerns(connection));
            if !counts || there.clone().count() < most {
                continue;
            }
            // One that goes makes room for one.
            let of = |(number, connection): (&u64, &Connection<Id>)| (standing(&connection.peer), *number);
            let oldest = there.map(of).filter(|(standing, _)| *standing < Standing::Trusted).min();
            let oldest = oldest.map(|(_, number)| number);
            if gone.is_some() || oldest.is_none() {
                return Err(refusal);
            }
            gone = oldest;
        }
        let gone = gone.and_then(|number| self.connections.remove(&number)).map(|gone| (gone.peer, gone.id));
        self.last += 1;
        self.connections.insert(self.last, Connection { id, peer, from });
        Ok(gone)
    }

    /// A connection is closed.
    pub(super) fn leave(&mut self, id: Id) {
        self.connections.retain(|_, connection| connection.id != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const MOST: Most = Most { all: 16, strangers: 8, per_address: 4, per_network: 6, relayed: 3 };

    /// An address, or the name of no address.
    fn from(text: &str) -> Origin {
        match text {
            "relay" => Origin::Relay,
            text => text.parse().map_or(Origin::Elsewhere, Origin::Address),
        }
    }

    /// A room, and who is trusted.
    struct Rig {
        room: Room<usize>,
        trusted: BTreeSet<PeerId>,
        authors: BTreeSet<PeerId>,
        last: usize,
    }

    impl Rig {
        fn new() -> Self {
            Self { room: Room::new(MOST), trusted: BTreeSet::new(), authors: BTreeSet::new(), last: 0 }
        }

        fn comes(&mut self, peer: PeerId, address: &str) -> Result<Option<usize>, NoRoom> {
            self.last += 1;
            let trusted = self.trusted.clone();
            let authors = self.authors.clone();
            let entered = self.room.enter(self.last, peer, from(address), |peer| match peer {
                peer if trusted.contains(peer) => Standing::Trusted,
                peer if authors.contains(peer) => Standing::Author,
                _ => Standing::Stranger,
            });
            entered.map(|gone| gone.map(|(_, id)| id))
        }

        fn stranger(&mut self, address: &str) -> Result<Option<usize>, NoRoom> {
            self.comes(PeerId::random(), address)
        }

        fn trusted(&mut self, address: &str) -> Result<Option<usize>, NoRoom> {
            let peer = PeerId::random();
            self.trusted.insert(peer);
            self.comes(peer, address)
        }
    }

    #[test]
    fn strangers_have_half_and_the_oldest_makes_room() {
        let mut rig = Rig::new();
        for number in 0..8 {
            assert_eq!(rig.stranger(&format!("10.0.{number}.1")), Ok(None));
        }
        assert_eq!(rig.stranger("10.0.8.1"), Ok(Some(1)));
        assert_eq!(rig.stranger("10.0.9.1"), Ok(Some(2)));
        for number in 0..8 {
            assert_eq!(rig.trusted(&format!("10.1.{number}.1")), Ok(None), "half is kept for them");
        }
        assert_eq!(rig.trusted("10.2.0.1"), Ok(Some(3)), "and strangers go for more");
        assert_eq!(rig.room.connections.len(), 16);
    }

    #[test]
    fn one_entry_keeps_a_place_from_strangers_and_not_from_the_trusted() {
        let mut rig = Rig::new();
        let author = PeerId::random();
        rig.authors.insert(author);
        assert_eq!(rig.comes(author, "10.0.0.1"), Ok(None));
        for number in 1..20 {
            let gone = rig.stranger(&format!("10.0.{number}.1"));
            assert!(gone.is_ok_and(|gone| gone != Some(1)), "{number}");
        }
        // Who makes itself many names with an entry each has the room of strangers.
        for number in 20..60 {
            let peer = PeerId::random();
            rig.authors.insert(peer);
            assert!(rig.comes(peer, &format!("10.0.{number}.1")).is_ok_and(|gone| gone.is_some()));
        }
        for number in 0..8 {
            assert_eq!(rig.trusted(&format!("10.1.{number}.1")), Ok(None));
        }
    }

    #[test]
    fn no_stranger_pushes_out_who_is_trusted() {
        let mut rig = Rig::new();
        for number in 0..16 {
            assert_eq!(rig.trusted(&format!("10.0.{number}.1")), Ok(None));
        }
        assert_eq!(rig.stranger("10.1.0.1"), Err(NoRoom::All(16)));
        assert_eq!(rig.trusted("10.1.0.1"), Err(NoRoom::All(16)));
        rig.room.leave(1);
        assert_eq!(rig.stranger("10.1.0.1"), Ok(None));
        assert_eq!(rig.trusted("10.1.1.1"), Ok(Some(19)));
    }

    #[test]
    fn a_thousand_identities_of_one_address_leave_the_honest_one_there() {
        let mut rig = Rig::new();
        assert_eq!(rig.trusted("10.0.0.1"), Ok(None));
        let newcomer = PeerId::random();
        for number in 0..1000 {
            let entered = rig.stranger("10.0.0.1");
            assert!(entered.is_ok_and(|gone| gone.is_some() == (number >= 3) && gone != Some(1)), "{number}");
        }
        // Who comes among them has as long as it takes to bring as many again, and is safe once it is known.
        assert!(rig.comes(newcomer, "10.0.0.1").is_ok());
        let id = rig.last;
        rig.trusted.insert(newcomer);
        for _ in 0..1000 {
            assert!(rig.stranger("10.0.0.1").is_ok_and(|gone| gone.is_some() && gone != Some(id) && gone != Some(1)));
        }
        assert_eq!(rig.stranger("10.0.1.1"), Ok(None), "other addresses aren't concerned");
    }

    #[test]
    fn who_comes_by_way_of_relays_shares_a_part_of_the_room_and_no_address() {
        let mut rig = Rig::new();
        for number in 0..3 {
            assert_eq!(rig.stranger("relay"), Ok(None), "{number}");
        }
        assert_eq!(rig.stranger("relay"), Ok(Some(1)), "the oldest goes, and none of those that came directly");
        assert_eq!(rig.stranger("10.0.0.1"), Ok(None));
        for _ in 0..3 {
            assert!(rig.trusted("relay").is_ok_and(|gone| gone.is_some()));
        }
        assert_eq!(rig.stranger("relay"), Err(NoRoom::Relayed(3)));
        assert_eq!(rig.stranger("10.0.0.1"), Ok(None), "who comes directly isn't concerned");
    }

    #[test]
    fn one_address_has_its_part_of_the_half_open() {
        let mut half_open = HalfOpen::new(3);
        let begins =
            |half_open: &mut HalfOpen<usize>, id, address: &str| half_open.begins(id, address.parse().unwrap());
        for id in 0..3 {
            assert_eq!(begins(&mut half_open, id, "10.0.0.1"), Ok(()));
        }
        assert_eq!(begins(&mut half_open, 3, "10.0.0.1"), Err(NoRoom::HalfOpen(3)));
        assert_eq!(begins(&mut half_open, 4, "10.0.0.2"), Ok(()));
        half_open.ends(1);
        assert_eq!(begins(&mut half_open, 5, "::ffff:10.0.0.1"), Ok(()));
        assert_eq!(begins(&mut half_open, 6, "10.0.0.1"), Err(NoRoom::HalfOpen(3)));
        (0..7).for_each(|id| half_open.ends(id));
        assert!(half_open.addresses.is_empty());
    }

    #[test]
    fn networks_are_counted_and_so_are_the_hosts_of_ipv6() {
        let mut rig = Rig::new();
        for host in 1..=6 {
            assert_eq!(rig.trusted(&format!("192.0.2.{host}")), Ok(None));
        }
        assert_eq!(rig.stranger("192.0.2.7"), Err(NoRoom::Network(6)));
        assert_eq!(rig.stranger("192.0.3.7"), Ok(None));
        for host in 1..=4 {
            assert_eq!(rig.trusted(&format!("2001:db8:1:2::{host}")), Ok(None));
        }
        assert_eq!(rig.trusted("2001:db8:1:2::5"), Err(NoRoom::Address(4)));
        assert_eq!(rig.trusted("2001:db8:1:3::1"), Ok(None));
        assert_eq!(rig.trusted("2001:db8:1:4::1"), Ok(None));
        assert_eq!(rig.trusted("2001:db8:1:5::1"), Err(NoRoom::Network(6)));
        assert_eq!(rig.trusted("2001:db8:2:5::1"), Ok(None));
    }
}
