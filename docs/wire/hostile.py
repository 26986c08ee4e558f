#!/usr/bin/env python3
"""What hostile peers do to nodes of Peerfold, on the network, in Python's standard library alone.

    python3 docs/wire/hostile.py MODE ADDRESS/p2p/PEER… --federation NAME [--run RUN] [--seconds N]

Each mode is one attack, built on peer.py. It says in a line of JSON what it did and what became of its connections.
What nodes make of it is in threat-model.md. Only for nodes of your own: they are slowed down, and may be led astray.
"""

import argparse
import asyncio
import functools
import itertools
import json
import os
import random
import struct
import sys
from collections import Counter

import check
from check import Refused, varint
from peer import ACK, BLOB, DATA, GOSSIP, MULTISTREAM, SYN, SYNC, WINDOW
from peer import Connection, Ended, Peer, Stream, field, line, of_multiaddr, secret_in, shifted, within

FAILURES = (Refused, Ended, OSError, asyncio.IncompleteReadError)
MODES = {}


def mode(attack):
    MODES[attack.__name__.replace("_", "-")] = attack
    return attack


class Hostile(Peer):
    """A peer that doesn't verify what its own side has made."""

    def __init__(self, attack):
        super().__init__(attack.federation, os.urandom(32), attack.secret)
        self.attack, self.tell = attack, attack.note
        attack.made.add(self.public)

    def hear(self, connection, data):
        if self is self.attack.observer and data[65:97] not in self.attack.made:
            super().hear(connection, data)

    async def compare_with(self, connection):
        if self.attack.observer in (None, self):
            await super().compare_with(connection)

    def stream_of_gossip(self):
        if not self.gossiping:
            raise Ended("it isn't connected")
        return next(iter(self.gossiping.values()))


class Attack:
    """Where it goes, and what has come of it."""

    def __init__(self, arguments):
        self.federation = check.federation_id(arguments.federation, arguments.run)
        self.secret = arguments.secret and secret_in(arguments.secret)
        self.addresses, self.peers = itertools.cycle(arguments.addresses), arguments.peers
        # The public keys of its own peers.
        self.made = set()
        self.did, self.failed, self.ended, self.connections = Counter(), Counter(), Counter(), 0
        self.observer = self.value = None
        # Handshakes are slow here, and nodes wait ten seconds for one.
        self.dialling = asyncio.Semaphore(4)

    def note(self, event, **of):
        if event == "connected":
            self.connections += 1
        elif event == "disconnected":
            self.ended[of["reason"]] += 1
        elif event == "served":
            self.did["blobs given"] += of["blobs"]
            self.did["blobs not given"] += of["missing"]
        else:
            self.did[event] += 1

    def summary(self):
        ended = sum(self.ended.values())
        connections = {"made": self.connections, "not made": dict(self.failed), "ended": dict(self.ended)}
        return {"did": dict(self.did), "connections": connections | {"left": self.connections - ended}}

    async def connect(self, peer):
        """True once it is connected with one of the nodes."""
        try:
            async with self.dialling:
                await peer.connect(next(self.addresses))
            return True
        except FAILURES as error:
            self.failed[f"{type(error).__name__}: {error}"[:80]] += 1
            await asyncio.sleep(0.2)
            return False

    async def peer(self):
        """A connected peer under a new identity."""
        while not await self.connect(peer := Hostile(self)):
            pass
        return peer

    async def observe(self):
        """Learns what nodes publish, as any peer can."""
        self.observer = await self.peer()
        self.observer.tell = lambda *_, **__: None
        while self.newest() is None:
            await self.observer.news.wait()
            self.observer.news.clear()
        while self.value is None:
            try:
                self.value = await self.observer.fetch(*self.newest())
            except Refused:
                await asyncio.sleep(0.1)

    def newest(self):
        """The update of the latest epoch that isn't of this side."""
        return self.observer.entries.newest(self.made)

    @functools.lru_cache(maxsize=64)
    def shifted(self, by):
        """Root, manifest and chunks like the nodes' own, with other weights, each by its hash. Once for all peers."""
        encoded, chunks = shifted(*self.value[1:], by)
        root = check.blake3(encoded)
        return root.hex(), {root: encoded}, {check.blake3(chunk): chunk for chunk in chunks}

    def put(self, epoch=None, **of):
        """Layout and content of an update like the nodes' newest."""
        entry = self.newest()[1]
        return entry["layout"], entry["put"] | {"epoch": entry["put"]["epoch"] if epoch is None else epoch} | of

    def update(self, author, **of):
        layout, put = self.put(**of)
        self.did["updates signed"] += 1
        return author.sign(f"update/{put['epoch']}", layout, put)

    async def crowd(self, number, each):
        """So many peers at once, each doing this until it is disconnected; then another one takes its place."""

        async def one():
            while True:
                peer = await self.peer()
                [connection] = peer.connections
                doing = asyncio.ensure_future(each(peer, connection))
                try:
                    while peer.connections and not doing.done():
                        await asyncio.wait([doing, *connection.tasks], return_when=asyncio.FIRST_COMPLETED)
                    if doing.done() and peer.connections:
                        doing.result()
                except FAILURES:
                    await asyncio.sleep(0.2)
                finally:
                    doing.cancel()
                    connection.close()

        await asyncio.gather(*(one() for _ in range(self.peers or number)))


async def at_rate(number):
    """So many turns a second, as far as they can be kept up with."""
    clock = asyncio.get_running_loop()
    began = clock.time()
    for turn in itertools.count():
        await asyncio.sleep(max(0, began + turn / number - clock.time()))
        yield turn


@mode
async def watch(_):
    """Nothing: a peer that only reads what nodes publish, to compare the others with."""
    await asyncio.Event().wait()


# What is claimed


async def claim(attack, number, epoch_in):
    """So many authors, with good values, claim this epoch in each second."""
    authors, (encoded, _, chunks) = [Hostile(attack) for _ in range(number)], attack.value

    async def each(carrier, _):
        carrier.hold(encoded, chunks)
        async for second in at_rate(1):
            for author in authors:
                carrier.gossip(attack.update(author, epoch=epoch_in(second), root=check.blake3(encoded).hex()))

    await attack.crowd(1, each)


@mode
async def far_epochs(attack):
    """Twenty authors with good values claim epoch 999,999,999."""
    await claim(attack, 20, lambda _: 999_999_999)


@mode
async def climbing(attack):
    """Ten authors with good values are ten epochs ahead of the nodes, and climb by a hundred epochs a second."""
    await claim(attack, 10, lambda second: attack.newest()[1]["put"]["epoch"] + 10 + 100 * second)


@mode
async def huge_examples(attack):
    """Five authors with shifted weights claim a hundred million examples."""
    root, encoded, chunks = attack.shifted(0.5)

    async def each(peer, _):
        peer.blobs = encoded | chunks
        async for _ in at_rate(1):
            peer.gossip(attack.update(peer, root=root, num_examples=100_000_000))

    await attack.crowd(5, each)


@mode
async def vain(attack):
    """Ten authors announce a value a second each, and give none."""

    async def each(peer, _):
        async for _ in at_rate(1):
            peer.gossip(attack.update(peer, root=os.urandom(32).hex()))

    await attack.crowd(10, each)


@mode
async def wrong_bytes(attack):
    """Ten authors give other bytes than those of their values' hashes."""

    async def each(peer, _):
        async for turn in at_rate(1):
            root, encoded, chunks = attack.shifted(0.001 * (turn + 1))
            peer.blobs |= encoded | {hash_: os.urandom(len(chunk)) for hash_, chunk in chunks.items()}
            peer.gossip(attack.update(peer, root=root))

    await attack.crowd(10, each)


@mode
async def drip(attack):
    """Ten authors announce a value a second each, and give it by a byte a second."""

    async def each(peer, _):
        async def answer(_, stream):
            request = await stream.take_framed(2176)
            kind, of = check.read_message(check.BLOB_REQUESTS, 2176, check.frame(request))
            if kind != "Get":
                await stream.send_all(check.message("Noted", {}))
                stream.close()
                return
            attack.did["blobs asked for"] += len(of["hashes"])
            given = [check.frame(peer.blobs.get(bytes.fromhex(hash_), b"")) for hash_ in of["hashes"]]
            data = check.frame(varint(1) + varint(len(given))) + b"".join(given)
            for byte in data:
                await stream.send_all(bytes([byte]))
                await asyncio.sleep(1)

        peer.handlers[BLOB] = answer
        async for turn in at_rate(1):
            root, encoded, chunks = attack.shifted(0.001 * (turn + 1))
            peer.blobs |= encoded | chunks
            peer.gossip(attack.update(peer, root=root))

    await attack.crowd(10, each)


# Entries


@mode
async def many_authors(attack):
    """New authors with an update each, as fast as they can be signed."""

    async def each(carrier, _):
        while True:
            carrier.gossip(attack.update(Hostile(attack), root=os.urandom(32).hex()))
            await asyncio.sleep(0)

    await attack.crowd(4, each)


@mode
async def equivocators(attack):
    """New authors that sign two entries under one number, as fast as they can be signed."""

    async def each(carrier, _):
        while True:
            author, (layout, put) = Hostile(attack), attack.put(root=os.urandom(32).hex())
            for name in ("a", "b"):
                carrier.gossip(author.sign(name, layout, put, sequence=1))
            attack.did["authors that equivocate"] += 1
            await asyncio.sleep(0)

    await attack.crowd(4, each)


@mode
async def newer(attack):
    """Messages of ten bytes that say they are entries of later versions, 2,000 a second."""

    async def each(peer, _):
        async for _ in at_rate(50):
            messages = [bytes([random.randrange(2, 256)]) + os.urandom(9) for _ in range(40)]
            messages = b"".join(field(2, field(2, data) + field(4, peer.topic)) for data in messages)
            await peer.stream_of_gossip().send_all(check.string(messages))
            attack.did["messages"] += 40

    await attack.crowd(1, each)


@mode
async def forged(attack):
    """Entries of others with another signature, number or federation, and the true ones again and again."""

    async def each(peer, connection):
        other = Hostile(attack)
        other.federation = os.urandom(32)
        seen = []
        async for turn in at_rate(20):
            public, entry = attack.newest()
            data = attack.observer.entries.authors[public][entry["name"]][1]
            seen = [*seen[-63:], data]
            at = random.randrange(len(data))
            changed = data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
            layout, put = attack.put()
            elsewhere = other.sign("update/1", layout, put | {"root": os.urandom(32).hex()})
            data = [changed, random.choice(seen), elsewhere][turn % 3]
            peer.gossip(data)
            attack.did[("forged", "replayed", "of another federation")[turn % 3]] += 1
            await connection.drained()

    await attack.crowd(6, each)


# Requests


@mode
async def unread(attack):
    """Sixteen peers ask for the newest values, 64 times at once each, and read no byte of an answer."""
    secret = attack.secret and check.derive_key("peerfold 2026 private network v1", attack.secret)

    async def one():
        while True:
            try:
                async with attack.dialling:
                    address = next(attack.addresses)
                    connection = await within(20, Connection.dial(address, os.urandom(32), secret))
            except FAILURES as error:
                attack.failed[f"{type(error).__name__}: {error}"[:80]] += 1
                await asyncio.sleep(0.2)
                continue
            attack.connections += 1
            hashes = [check.blake3(of) for of in (attack.value[0], *attack.value[2])]
            of = {"federation": attack.federation.hex(), "hashes": [hash_.hex() for hash_ in hashes]}
            request = line(MULTISTREAM) + line(BLOB) + check.message("Get", of)
            try:
                for number in itertools.count(1, 2):
                    stream = Stream(connection, number, SYN)
                    stream.send(request)
                    stream.close()
                    attack.did["requests"] += 1
                    await within(30, connection.drained())
                    await asyncio.sleep(0.001 if number < 128 else 0.05)
            except (Ended, OSError) as error:
                attack.ended[f"{type(error).__name__}: {error}"] += 1
            connection.writer.close()

    await asyncio.gather(*(one() for _ in range(16)))


@mode
async def sync_flood(attack):
    """Eight peers compare wrong digests and ask for all entries, as fast as they are answered, 32 at once each."""

    async def each(peer, connection):
        async def ask():
            while peer.connections:
                try:
                    await peer.ask_sync(connection, "Compare", digest=os.urandom(32).hex())
                    await peer.ask_sync(connection, "Items", buckets=range(256), after=None)
                    attack.did["answers"] += 2
                except (Refused, Ended):
                    attack.did["requests not answered"] += 1
                    await asyncio.sleep(0.05)

        await asyncio.gather(*(ask() for _ in range(32)))

    await attack.crowd(8, each)


@mode
async def streams(attack):
    """Eight peers open streams without end, and agree on no protocol."""

    async def each(_, connection):
        for turn in itertools.count():
            Stream(connection, (1 << 20) + 1 + 2 * turn, SYN).send(line(MULTISTREAM)[:5])
            attack.did["streams"] += 1
            await connection.drained()
            await asyncio.sleep(0.001)

    await attack.crowd(8, each)


@mode
async def control(attack):
    """Six peers flood gossip with subscriptions, grafts, prunes, and ids that nobody has."""

    async def each(peer, _):
        ids = [os.urandom(32) for _ in range(1000)]
        topics = [field(1, field(1, 1) + field(2, os.urandom(32).hex())) for _ in range(500)]
        leave = field(1, field(1, 0) + field(2, peer.topic)) + field(1, field(1, 1) + field(2, peer.topic))
        floods = [
            field(3, field(1, field(1, peer.topic) + b"".join(field(2, id_) for id_ in ids))),
            field(3, field(2, b"".join(field(1, id_) for id_ in ids))),
            b"".join(topics),
            leave * 200,
            b"".join(field(3, field(kind, field(1, peer.topic))) for kind in (3, 4) * 200),
        ]
        stream = peer.stream_of_gossip()
        for flood in itertools.cycle(floods):
            await stream.send_all(check.string(flood))
            attack.did["floods"] += 1

    await attack.crowd(6, each)


# Connections


@mode
async def idle(attack):
    """Three hundred identities connect, subscribe, and do nothing."""

    async def each(*_):
        await asyncio.Event().wait()

    await attack.crowd(300, each)


@mode
async def silent(attack):
    """Four hundred TCP connections that say nothing, or only multistream's first line."""

    async def one(number):
        while True:
            host, port, _ = of_multiaddr(next(attack.addresses))
            try:
                reader, writer = await asyncio.open_connection(host, port)
                attack.connections += 1
                if number % 2:
                    writer.write(line(MULTISTREAM))
                while await reader.read(4096):
                    pass
                attack.ended["closed by the other side"] += 1
                writer.close()
            except OSError as error:
                attack.ended[type(error).__name__] += 1
            await asyncio.sleep(0.1)

    await asyncio.gather(*map(one, range(400)))


@mode
async def random_bytes(attack):
    """Random bytes in the place of a handshake, of Yamux, of gossip, of requests and of what is answered."""

    async def raw():
        while True:
            host, port, _ = of_multiaddr(next(attack.addresses))
            try:
                reader, writer = await asyncio.open_connection(host, port)
                attack.connections += 1
                greeting = random.choice([b"", line(MULTISTREAM), line(MULTISTREAM) + line("/noise")])
                writer.write(greeting + os.urandom(65_536))
                while await reader.read(4096):
                    pass
                attack.ended["closed by the other side"] += 1
                writer.close()
            except OSError as error:
                attack.ended[type(error).__name__] += 1
            attack.did["connections with random bytes"] += 1
            await asyncio.sleep(0.05)

    async def each(peer, connection):
        async def answer(_, stream):
            await stream.take(4)
            await stream.send_all(os.urandom(random.randrange(4096)))
            stream.close()
            attack.did["random answers"] += 1

        peer.handlers |= {SYNC: answer, BLOB: answer}
        async for turn in at_rate(20):
            data = os.urandom(random.randrange(1, 2048))
            if turn % 100 == 99:
                connection.send(os.urandom(64))
                attack.did["random frames of Yamux"] += 1
                continue
            try:
                stream = await connection.open(*(GOSSIP if turn % 3 == 0 else [(SYNC, BLOB)[turn % 2]]))
                await stream.send_all(random.choice([data, check.frame(data), check.string(data)]))
                stream.close()
            except (Refused, Ended):
                await asyncio.sleep(0.1)
            attack.did["random requests"] += 1

    await asyncio.gather(*(raw() for _ in range(4)), attack.crowd(4, each))


@mode
async def frames(attack):
    """Six peers send Yamux frames that take room, windows without end, and data for streams that aren't open."""

    async def each(_, connection):
        for turn in itertools.count():
            number = (1 << 22) + 1 + 2 * random.randrange(1000)
            connection.frame(WINDOW, random.choice([0, SYN, ACK]), number, (1 << 31) - 1)
            connection.frame(DATA, 0, number, bytes(1 << 14))
            attack.did["frames"] += 2
            await connection.drained()
            await asyncio.sleep(0.005)

    await attack.crowd(6, each)


async def run(attack, arguments):
    """Returns what has come of it when its time is over, before its own end closes all connections."""
    await within(60, attack.observe())
    attacking = asyncio.ensure_future(MODES[arguments.mode](attack))
    await asyncio.wait([attacking], timeout=arguments.seconds)
    summary = attack.summary()
    if attacking.done():
        attacking.result()
    return summary


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n", 1)[0],
        epilog="modes: " + "; ".join(f"{name}: {attack.__doc__}" for name, attack in MODES.items()),
    )
    parser.add_argument("mode", choices=MODES, metavar="MODE")
    parser.add_argument("addresses", nargs="+", metavar="ADDRESS", help="/ip4/HOST/tcp/PORT/p2p/PEER of a node")
    parser.add_argument("--federation", required=True, metavar="NAME")
    parser.add_argument("--run", default="1")
    parser.add_argument("--secret", metavar="FILE", help="the federation's, if it has one")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--peers", type=int, metavar="N", help="so many connections instead of the mode's number")
    arguments = parser.parse_args()
    attack = Attack(arguments)
    try:
        summary = asyncio.run(run(attack, arguments))
    except FAILURES as error:
        sys.exit(f"error: {type(error).__name__}: {error}")
    print(json.dumps({"mode": arguments.mode, "what": MODES[arguments.mode].__doc__} | summary))


if __name__ == "__main__":
    main()
