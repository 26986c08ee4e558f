#!/usr/bin/env python3
"""A peer on the network by docs/wire.md, in Python's standard library alone: it takes, publishes and serves values.

    python3 docs/wire/peer.py join ADDRESS/p2p/PEER… --federation NAME [--run RUN] [--shift F] [--updates N] [--seconds S]

It dials the nodes, fetches the newest update of the others, verifies it down to the chunks, and publishes the same
weights under an identity of its own, as often as they publish. What happens is written as JSON lines. It dials and is
not dialled, knows TCP alone, and asks no table of peers. Nothing here is fast, and the arithmetic takes different time
for different secrets: use it for tests only.
"""

import argparse
import asyncio
import functools
import hashlib
import hmac
import itertools
import json
import math
import operator
import os
import re
import struct
import sys
import time
from pathlib import Path

import check
from check import Newer, Reader, Refused, blake3, need, peer_text, varint

# X25519 and ChaCha20-Poly1305


def x25519(secret, public):
    number = int.from_bytes(secret, "little") & ((1 << 254) - 8) | 1 << 254
    u = int.from_bytes(public, "little") & ((1 << 255) - 1)
    x2, z2, x3, z3, swapped = 1, 0, u, 1, 0
    for at in range(254, -1, -1):
        bit = number >> at & 1
        if bit != swapped:
            x2, z2, x3, z3, swapped = x3, z3, x2, z2, bit
        a, b, c, d = x2 + z2, x2 - z2, (x3 + z3) * (x2 - z2), (x3 - z3) * (x2 + z2)
        aa, bb = a * a % check.P, b * b % check.P
        e = aa - bb
        x2, z2 = aa * bb % check.P, e * (aa + 121665 * e) % check.P
        x3, z3 = (d + c) ** 2 % check.P, u * (d - c) ** 2 % check.P
    if swapped:
        x2, z2 = x3, z3
    return (x2 * pow(z2, check.P - 2, check.P) % check.P).to_bytes(32, "little")


@functools.lru_cache(maxsize=64)
def lanes(blocks):
    """A one for each block, 64 bits apart; its number; and all 32 bits of each."""
    ones = int.from_bytes((b"\1" + bytes(7)) * blocks, "little")
    return ones, int.from_bytes(struct.pack(f"<{blocks}Q", *range(blocks)), "little"), ones * 0xFFFFFFFF


def chacha20(key, nonce, length):
    """The key stream from block 0. A word of the state is one long number, with a lane for each block."""
    blocks = -(-length // 64)
    ones, numbers, low = lanes(blocks)
    start = [word * ones for word in (*check.SIGMA, *check.words_of(key))]
    start += [numbers, *(word * ones for word in check.words_of(nonce))]
    s = list(start)

    def mix(a, b, c, d):
        for to, by, turned, left in (a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7):
            s[to] = (s[to] + s[by]) & low
            word = s[turned] ^ s[to]
            s[turned] = (word << left | word >> (32 - left)) & low

    for _ in range(10):
        for at in range(4):
            mix(at, 4 + at, 8 + at, 12 + at)
        for at in range(4):
            mix(at, 4 + (at + 1) % 4, 8 + (at + 2) % 4, 12 + (at + 3) % 4)
    words = [0] * (16 * blocks)
    for at, (one, other) in enumerate(zip(s, start)):
        lane = ((one + other) & low).to_bytes(8 * blocks, "little")
        words[at::16] = struct.unpack(f"<{2 * blocks}I", lane)[::2]
    return struct.pack(f"<{16 * blocks}I", *words)[:length]


class Cipher:
    """One direction of a connection, or the key of a handshake: Noise's CipherState."""

    def __init__(self, key):
        self.key, self.number = key, 0

    def stream(self, length):
        stream = chacha20(self.key, bytes(4) + struct.pack("<Q", self.number), 64 + length)
        self.number += 1
        return stream[:32], stream[64:]

    def encrypted(self, data, associated=b""):
        of_tag, stream = self.stream(len(data))
        data = check.xor(data, stream)
        return data + check.tag_of(of_tag, data, associated)

    def decrypted(self, data, associated=b""):
        need(len(data) >= 16, "no room for a tag")
        data, tag = data[:-16], data[-16:]
        of_tag, stream = self.stream(len(data))
        need(check.tag_of(of_tag, data, associated) == tag, "another key, or changed")
        return check.xor(data, stream)


# Protobuf: fields of bytes and of numbers


def field(number, of):
    if isinstance(of, int):
        return varint(number << 3) + varint(of)
    return varint(number << 3 | 2) + check.string(of)


def fields(data):
    """Number and content of each field."""
    reader = Reader(data)
    while reader.at < len(data):
        key = reader.varint()
        need(key & 7 in (0, 2), "a field that is neither number nor bytes")
        yield key >> 3, reader.bytes() if key & 7 else reader.varint()


def all_of(data, number):
    return [of for at, of in fields(data) if at == number]


def one_of(data, number, otherwise=b""):
    return (all_of(data, number) or [otherwise])[-1]


# The private network of a federation with a secret


def salsa(words):
    """Twenty rounds, without the sum at the end."""
    s = list(words)

    def mix(a, b, c, d):
        for to, one, other, left in (b, a, d, 7), (c, b, a, 9), (d, c, b, 13), (a, d, c, 18):
            word = (s[one] + s[other]) & 0xFFFFFFFF
            s[to] ^= (word << left | word >> (32 - left)) & 0xFFFFFFFF

    for _ in range(10):
        for at in range(4):
            mix(5 * at, *((5 * at + 4 * by) % 16 for by in (1, 2, 3)))
        for at in range(4):
            mix(5 * at, *(4 * at + (at + by) % 4 for by in (1, 2, 3)))
    return s


def salsa_state(key, of):
    k, n, c = check.words_of(key), check.words_of(of), check.SIGMA
    return [c[0], *k[:4], c[1], *n, c[2], *k[4:], c[3]]


def xsalsa20(key, nonce):
    """The key stream, byte by byte."""
    s = salsa(salsa_state(key, nonce[:16]))
    key = struct.pack("<8I", *(s[at] for at in (0, 5, 10, 15, 6, 7, 8, 9)))
    for number in itertools.count():
        words = salsa_state(key, nonce[16:] + struct.pack("<Q", number))
        yield from struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(salsa(words), words)))


class Private:
    """Both ends of a socket, each direction combined with a key stream."""

    def __init__(self, reader, writer, sending, receiving):
        self.reader, self.writer, self.sending, self.receiving = reader, writer, sending, receiving
        self.close, self.drain = writer.close, writer.drain
        self.is_closing, self.get_extra_info = writer.is_closing, writer.get_extra_info

    @classmethod
    async def meet(cls, reader, writer, key):
        nonce = os.urandom(24)
        writer.write(nonce)
        return cls(reader, writer, xsalsa20(key, nonce), xsalsa20(key, await reader.readexactly(24)))

    def write(self, data):
        self.writer.write(bytes(map(operator.xor, data, self.sending)))

    async def readexactly(self, length):
        return bytes(map(operator.xor, await self.reader.readexactly(length), self.receiving))


# Noise


class Noise:
    """Noise_XX_25519_ChaChaPoly_SHA256 with libp2p's payload, from the side that dials."""

    def __init__(self):
        self.hash = self.chaining = b"Noise_XX_25519_ChaChaPoly_SHA256"
        self.cipher = None
        self.mix_hash(b"")

    def mix_hash(self, data):
        self.hash = hashlib.sha256(self.hash + data).digest()

    def mix_key(self, shared):
        self.chaining, key = self.derived(shared)
        self.cipher = Cipher(key)

    def derived(self, data):
        key = hmac.digest(self.chaining, data, "sha256")
        first = hmac.digest(key, b"\1", "sha256")
        return first, hmac.digest(key, first + b"\2", "sha256")

    def sealed(self, data):
        sealed = self.cipher.encrypted(data, self.hash)
        self.mix_hash(sealed)
        return sealed

    def opened(self, sealed):
        data = self.cipher.decrypted(sealed, self.hash)
        self.mix_hash(sealed)
        return data


STATIC_KEY = b"noise-libp2p-static-key:"


async def noise(reader, writer, secret, expected):
    """Public key of the other side, and the ciphers of both directions."""

    async def received():
        return await reader.readexactly(struct.unpack(">H", await reader.readexactly(2))[0])

    def send(data):
        writer.write(struct.pack(">H", len(data)) + data)

    state, nine = Noise(), b"\x09" + bytes(31)
    ephemeral, static = os.urandom(32), os.urandom(32)
    mine, of_static = x25519(ephemeral, nine), x25519(static, nine)
    send(mine)
    state.mix_hash(mine)
    state.mix_hash(b"")
    answer = await received()
    need(len(answer) >= 96, "a short handshake")
    theirs = answer[:32]
    state.mix_hash(theirs)
    state.mix_key(x25519(ephemeral, theirs))
    their_static = state.opened(answer[32:80])
    state.mix_key(x25519(ephemeral, their_static))
    payload = state.opened(answer[80:])
    key = one_of(payload, 1)
    need(key[:4] == b"\x08\x01\x12\x20" and len(key) == 36, "no Ed25519 key")
    need(check.is_signed(key[4:], STATIC_KEY + their_static, one_of(payload, 2)), "the handshake's signature")
    need(expected in (None, key[4:]), "another peer answers there")
    proof = field(1, key[:4] + check.public_key(secret)) + field(2, check.signature(secret, STATIC_KEY + of_static))
    data = state.sealed(of_static)
    state.mix_key(x25519(static, theirs))
    send(data + state.sealed(proof))
    sending, receiving = map(Cipher, state.derived(b""))
    return key[4:], sending, receiving


# Multistream-select

MULTISTREAM = "/multistream/1.0.0"


def line(text):
    return check.string(text + "\n")


async def read_line(take):
    """By a function that takes so many bytes."""
    length = await read_varint(take, 1 << 14)
    text = await take(length)
    need(text.endswith(b"\n"), "a line without an end")
    return text[:-1].decode(errors="replace")


async def read_varint(take, most):
    number, shift = 0, 0
    while True:
        byte = (await take(1))[0]
        number |= (byte & 127) << shift
        need(number <= most and shift <= 28, "a length over its limit")
        if byte < 128:
            return number
        shift += 7


async def choose(take, send, protocol):
    """Agrees on a protocol with who listens."""
    send(line(MULTISTREAM) + line(protocol))
    need(await read_line(take) == MULTISTREAM, "no multistream-select")
    answer = await read_line(take)
    if answer != protocol:
        raise NotSpoken(f"{protocol} isn't spoken there: {answer}")


class NotSpoken(Refused):
    """The other side doesn't speak a protocol."""


# Yamux

DATA, WINDOW, PING, AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
ROOM = 1 << 18


class Ended(Exception):
    """A stream or connection ended before what was asked of it."""


async def within(seconds, what):
    """Its result. Unlike `wait_for` of some versions of Python it loses no cancellation."""
    task = asyncio.ensure_future(what)
    done, _ = await asyncio.wait([task], timeout=seconds)
    if not done:
        task.cancel()
        raise Ended(f"nothing within {seconds} s")
    return task.result()


class Stream:
    """One stream of a connection."""

    def __init__(self, connection, number, syn):
        self.connection, self.number = connection, number
        self.first = syn
        self.read, self.taken = bytearray(), 0
        self.room, self.is_read, self.is_reset = ROOM, False, False
        self.changed = asyncio.Event()

    def flags(self):
        """What the first frame says besides: that it opens the stream, or takes it."""
        flags, self.first = self.first, 0
        return flags

    async def change(self):
        self.changed.clear()
        await self.changed.wait()

    async def take(self, length):
        while len(self.read) < length:
            if self.is_read or self.is_reset:
                raise Ended(f"the stream ended after {len(self.read)} of {length} bytes")
            await self.change()
        data = bytes(self.read[:length])
        del self.read[:length]
        self.taken += length
        if self.taken >= ROOM // 2:
            self.connection.frame(WINDOW, self.flags(), self.number, self.taken)
            self.taken = 0
        return data

    async def take_framed(self, most):
        length = struct.unpack("<I", await self.take(4))[0]
        need(length <= most, "a frame over its limit")
        return await self.take(length)

    def send(self, data):
        """What is short, without regard to the room that the other side has given."""
        self.room -= len(data)
        self.connection.frame(DATA, self.flags(), self.number, data)

    async def send_all(self, data):
        for at in range(0, len(data), 1 << 14):
            part = data[at : at + (1 << 14)]
            while self.room < len(part):
                if self.is_reset:
                    raise Ended("the stream was reset")
                await self.change()
            self.send(part)
            await self.connection.drained()

    def close(self):
        if not self.is_reset:
            self.connection.frame(DATA, self.flags() | FIN, self.number, b"")

    def reset(self):
        self.is_reset = True
        self.connection.frame(DATA, self.flags() | RST, self.number, b"")
        self.connection.streams.pop(self.number, None)


class Connection:
    """A connection that was dialled: Yamux in Noise over TCP."""

    def __init__(self, reader, writer, address):
        self.reader, self.writer, self.address = reader, writer, address
        self.peer = self.sending = self.receiving = None
        self.plain, self.streams, self.next = bytearray(), {}, 1
        self.why = None
        # Kept, as the loop itself only knows a task weakly.
        self.tasks = set()

    @classmethod
    async def dial(cls, address, secret, private=None):
        """To `/ip4/HOST/tcp/PORT/p2p/PEER`, as the owner of this secret key, in the private network of this key."""
        host, port, peer = of_multiaddr(address)
        reader, writer = await asyncio.open_connection(host, port)
        if private:
            reader = writer = await Private.meet(reader, writer, private)
        self = cls(reader, writer, address)
        await choose(reader.readexactly, writer.write, "/noise")
        found = await noise(reader, writer, secret, peer and check.peer_public(peer))
        self.peer, self.sending, self.receiving = found
        await choose(self.take, self.send, "/yamux/1.0.0")
        return self

    async def take(self, length):
        while len(self.plain) < length:
            size = struct.unpack(">H", await self.reader.readexactly(2))[0]
            self.plain += self.receiving.decrypted(await self.reader.readexactly(size))
        data = bytes(self.plain[:length])
        del self.plain[:length]
        return data

    def send(self, data):
        if self.writer.is_closing():
            return
        for at in range(0, len(data), 65519):
            sealed = self.sending.encrypted(data[at : at + 65519])
            self.writer.write(struct.pack(">H", len(sealed)) + sealed)

    async def drained(self):
        await self.writer.drain()

    def frame(self, kind, flags, stream, of):
        length, data = (len(of), of) if kind == DATA else (of, b"")
        self.send(struct.pack(">BBHII", 0, kind, flags, stream, length) + data)

    async def open(self, *protocols):
        """A new stream, with the first of the protocols that the other side speaks."""
        for protocol in protocols:
            stream = Stream(self, self.next, SYN)
            self.streams[self.next] = stream
            self.next += 2
            try:
                await choose(stream.take, stream.send, protocol)
                return stream
            except NotSpoken:
                stream.reset()
        raise NotSpoken(f"none of {', '.join(protocols)} is spoken there")

    def start(self, task):
        task = asyncio.ensure_future(task)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def run(self, handlers):
        """Reads until the connection ends, with a task for each stream that the other side opens. Returns why."""
        try:
            while True:
                version, kind, flags, number, length = struct.unpack(">BBHII", await self.take(12))
                need(version == 0 and kind < 4, "no frame of Yamux")
                await self.framed(kind, flags, number, length, handlers)
                if kind == AWAY:
                    self.why = f"it goes away: {length}"
                    break
        except (Refused, OSError, asyncio.IncompleteReadError) as error:
            is_end = isinstance(error, asyncio.IncompleteReadError)
            self.why = "closed by the other side" if is_end else f"{type(error).__name__}: {error}"
        finally:
            self.close()
        return self.why

    async def framed(self, kind, flags, number, length, handlers):
        if kind == PING:
            if flags & SYN:
                self.frame(PING, ACK, 0, length)
            return
        if kind == AWAY:
            return
        need(length <= ROOM or kind == WINDOW, "more than there is room for")
        data = await self.take(length) if kind == DATA else b""
        if flags & SYN:
            need(number % 2 == 0 and number not in self.streams, "a stream that isn't the other side's")
            stream = self.streams[number] = Stream(self, number, ACK)
            self.start(self.answer(stream, handlers))
        stream = self.streams.get(number)
        if stream is None:
            return
        stream.read += data
        stream.room += length if kind == WINDOW else 0
        stream.is_read |= bool(flags & FIN)
        if flags & RST:
            stream.is_reset = True
            del self.streams[number]
        stream.changed.set()

    async def answer(self, stream, handlers):
        """Agrees on a protocol and leaves the stream to its handler."""
        try:
            need(await read_line(stream.take) == MULTISTREAM, "no multistream-select")
            stream.send(line(MULTISTREAM))
            while (protocol := await read_line(stream.take)) not in handlers:
                stream.send(line("na"))
            stream.send(line(protocol))
            await handlers[protocol](self, stream)
        except (Refused, Newer, Ended, OSError):
            stream.reset()
        finally:
            self.streams.pop(stream.number, None)

    def close(self):
        for stream in self.streams.values():
            stream.is_reset = True
            stream.changed.set()
        self.writer.close()


def of_multiaddr(address):
    """Host, port, and peer id if there is one."""
    found = re.fullmatch("/(?:ip4|ip6|dns4?|dns6)/([^/]+)/tcp/([0-9]+)(?:/p2p/([^/]+))?", address)
    need(found, f"{address} must be /ip4/HOST/tcp/PORT/p2p/PEER")
    return found[1], int(found[2]), found[3]


def multiaddr_bytes(host, port):
    """Of an IPv4 address and a port."""
    return b"\x04" + bytes(map(int, host.split("."))) + b"\x06" + struct.pack(">H", port)


# Entry sets


class Entries:
    """What a peer knows of a federation."""

    def __init__(self, federation):
        self.federation = federation
        # Of each author by name: the entry and its bytes.
        self.authors = {}
        self.proofs = {}

    def take(self, data):
        """Takes a signed entry in. False if it changes nothing."""
        public, entry = check.read_entry(data)
        if entry["federation"] != self.federation.hex() or public in self.proofs:
            return False
        held = self.authors.setdefault(public, {})
        for other, bytes_ in held.values():
            if other["sequence"] == entry["sequence"] and bytes_ != data:
                self.proofs[public] = sorted((bytes_, data), key=blake3)
                del self.authors[public]
                return True
        before = held.get(entry["name"])
        if before and before[0]["sequence"] >= entry["sequence"]:
            return False
        updates = sorted(self.updates_of(public), key=lambda entry: entry["sequence"])
        updates = [other for other in updates if other["name"] != entry["name"]]
        if epoch_of(entry["name"]) is not None and len(updates) == 2:
            if entry["sequence"] < updates[0]["sequence"]:
                return False
            del held[updates[0]["name"]]
        held[entry["name"]] = entry, data
        return True

    def take_proof(self, one, other):
        (public, first), (author, second) = check.read_entry(one), check.read_entry(other)
        is_one = public == author and first["sequence"] == second["sequence"] and one != other
        need(is_one and first["federation"] == second["federation"], "no proof")
        if first["federation"] != self.federation.hex() or public in self.proofs:
            return False
        self.proofs[public] = sorted((one, other), key=blake3)
        self.authors.pop(public, None)
        return True

    def updates_of(self, public):
        held = self.authors.get(public, {})
        return [entry for name, (entry, _) in held.items() if epoch_of(name) is not None and "put" in entry]

    def newest(self, but):
        """Author and entry of the update of the latest epoch that isn't of these authors."""
        of = [(public, entry) for public in self.authors if public not in but for entry in self.updates_of(public)]
        return max(of, key=lambda of: (of[1]["put"]["epoch"], of[1]["sequence"]), default=None)

    def sequence(self, public):
        return max((entry["sequence"] for entry, _ in self.authors.get(public, {}).values()), default=0)

    def prints(self):
        """Fingerprints of the buckets that aren't empty."""
        buckets = {}
        for public in sorted({*self.authors, *self.proofs}):
            data = b"x" + check.peer_bytes(public) if public in self.proofs else b""
            held = self.authors.get(public, {})
            data += b"".join(b"e" + blake3(held[name][1]) for name in sorted(held, key=str.encode))
            if data:
                buckets[bucket_of(public)] = buckets.get(bucket_of(public), b"") + data
        return {at: check.derive_key("peerfold 2026 bucket fingerprint v1", of)[:16] for at, of in buckets.items()}

    def page(self, buckets, after):
        """Items after a position, and the position of the last one if there are more."""
        items = []
        for public in self.proofs:
            one, other = self.proofs[public]
            items.append((bucket_of(public), peer_text(public), {"proof": [check.hexed(one), check.hexed(other)]}))
        for public, held in self.authors.items():
            author = peer_text(public)
            for name, (_, data) in held.items():
                items.append((bucket_of(public), f"{author}/{name}", {"entry": check.hexed(data)}))
        # The text of an author is shorter than those of its keys, and comes before them.
        items.sort(key=lambda item: (item[0], item[1].encode()))
        after = (after["bucket"], after["text"].encode()) if after else (-1, b"")
        items = [item for item in items if item[0] in buckets and (item[0], item[1].encode()) > after]
        last = {"bucket": items[127][0], "text": items[127][1]} if len(items) > 128 else None
        return {"items": [item for _, _, item in items[:128]], "next": last}


@functools.lru_cache(maxsize=8192)
def bucket_of(public):
    return check.bucket_of(public)


def epoch_of(name):
    """The epoch of an update, by its name."""
    found = re.fullmatch("update/(0|[1-9][0-9]*)", name)
    return int(found[1]) if found and int(found[1]) < 1 << 64 else None


# The peer

SYNC, BLOB = "/peerfold/sync/1", "/peerfold/blob/1"
GOSSIP = ["/meshsub/1.2.0", "/meshsub/1.1.0", "/meshsub/1.0.0"]
IDENTIFY, PUSH, ECHO = "/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0"
MOST_BLOBS, MOST_RPC, MOST_ANSWER = 4 << 20, 65_536, 263_680


def tell(event, **of):
    """A line of what happened. Who doesn't read it any more ends the program."""
    print(json.dumps({"event": event, "time": round(time.time(), 3)} | of), flush=True)


class Peer:
    """An identity in a federation, with all that it knows, holds and is connected with."""

    def __init__(self, federation, secret, shared=None):
        """With the secret of its own key, and that of the federation if it has one."""
        self.federation, self.secret, self.public = federation, secret, check.public_key(secret)
        self.topic, self.private = federation.hex(), None
        if shared:
            context = "peerfold 2026 gossip topic of a secret federation v1"
            self.topic = check.derive_key(context, shared + federation).hex()
            self.private = check.derive_key("peerfold 2026 private network v1", shared)
        self.entries, self.blobs, self.sequence = Entries(federation), {}, 0
        self.connections, self.gossiping, self.members = [], {}, set()
        self.seen, self.compared = {}, {}
        self.news, self.tell = asyncio.Event(), tell
        self.handlers = {
            SYNC: self.answer_sync,
            BLOB: self.answer_blobs,
            IDENTIFY: self.answer_identify,
            PUSH: self.read_identify,
            ECHO: self.answer_ping,
        } | {protocol: self.read_gossip for protocol in GOSSIP}

    async def connect(self, address):
        """Dials a node and greets it. The task that is returned ends with the connection, and says why it did."""
        connection = await within(20, Connection.dial(address, self.secret, self.private))
        self.connections.append(connection)
        running = connection.start(self.run(connection))
        agent = await self.agent_of(connection)
        self.tell("connected", peer=peer_text(connection.peer), address=address, agent=agent)
        await self.subscribe(connection)
        connection.start(self.compare_with(connection))
        return running

    async def run(self, connection):
        why = await connection.run(self.handlers)
        self.connections.remove(connection)
        self.gossiping.pop(connection, None)
        self.tell("disconnected", peer=peer_text(connection.peer), reason=why)
        return why

    # Identify and ping

    async def agent_of(self, connection):
        stream = await connection.open(IDENTIFY)
        return one_of(await stream.take(await read_varint(stream.take, 1 << 14)), 6).decode()

    async def answer_identify(self, connection, stream):
        host, port = connection.writer.get_extra_info("peername")[:2]
        said = field(1, b"\x08\x01\x12\x20" + self.public)
        said += b"".join(field(3, protocol) for protocol in self.handlers)
        if "." in host:
            said += field(4, multiaddr_bytes(host, port))
        said += field(5, "/peerfold/1") + field(6, "peerfold-in-python/1")
        await stream.send_all(check.string(said))
        stream.close()

    async def read_identify(self, _, stream):
        await stream.take(await read_varint(stream.take, 1 << 14))

    async def answer_ping(self, _, stream):
        while True:
            stream.send(await stream.take(32))

    # Gossip

    async def subscribe(self, connection):
        stream = await connection.open(*GOSSIP)
        self.gossiping[connection] = stream
        self.say(stream, field(1, field(1, 1) + field(2, self.topic)))
        self.say(stream, field(3, field(3, field(1, self.topic))))

    @staticmethod
    def say(stream, rpc):
        stream.send(check.string(rpc))

    def gossip(self, data, but=None):
        """Sends an entry to every peer that is connected."""
        self.seen[blake3(data)] = data
        for connection, stream in self.gossiping.items():
            if connection is not but:
                self.say(stream, field(2, field(2, data) + field(4, self.topic)))

    async def read_gossip(self, connection, stream):
        while True:
            rpc = await stream.take(await read_varint(stream.take, MOST_RPC))
            for sent in all_of(rpc, 2):
                is_plain = not any(all_of(sent, number) for number in (1, 3, 5))
                if is_plain and one_of(sent, 4).decode() == self.topic:
                    self.hear(connection, one_of(sent, 2))
            for control in all_of(rpc, 3):
                self.control(connection, control)

    def hear(self, connection, data):
        """A message of gossip: what is new is passed on."""
        if blake3(data) in self.seen:
            return
        self.seen[blake3(data)] = data
        while len(self.seen) > 4096:
            del self.seen[next(iter(self.seen))]
        try:
            if self.entries.take(data):
                self.gossip(data, but=connection)
                self.news.set()
        except (Refused, Newer):
            pass

    def control(self, connection, control):
        stream = self.gossiping.get(connection)
        if stream is None:
            return
        ids = [id_ for ihave in all_of(control, 1) for id_ in all_of(ihave, 2) if id_ not in self.seen]
        if ids:
            self.say(stream, field(3, field(2, b"".join(field(1, id_) for id_ in ids[:256]))))
        for id_ in [id_ for iwant in all_of(control, 2) for id_ in all_of(iwant, 1)][:256]:
            if id_ in self.seen:
                self.say(stream, field(2, field(2, self.seen[id_]) + field(4, self.topic)))
        # A graft needs no answer, as this peer sends to all. A prune stays until the node grafts again.

    # Sync

    async def ask(self, connection, protocol, request):
        """A request on a stream of its own, whose answer is then to be read."""
        stream = await connection.open(protocol)
        await stream.send_all(request)
        stream.close()
        return stream

    async def ask_sync(self, connection, kind, **of):
        request = check.message(kind, {"federation": self.federation.hex()} | of)
        stream = await self.ask(connection, SYNC, request)
        answer = await stream.take_framed(MOST_ANSWER)
        connection.streams.pop(stream.number, None)
        return check.read_message(check.SYNC_ANSWERS, MOST_ANSWER, check.frame(answer))

    async def compare_with(self, connection):
        """Takes in what the other knows, if it is something else."""
        try:
            await self.compare(connection)
        except (Refused, Ended, OSError) as error:
            self.tell("not_compared", peer=peer_text(connection.peer), reason=str(error))

    async def compare(self, connection):
        prints = self.entries.prints()
        kind, of = await self.ask_sync(connection, "Compare", digest=check.digest(prints).hex())
        if kind == "Same":
            self.members.add(connection)
            # All that there is is known, so the own number too.
            self.news.set()
            return
        need(kind == "Differs", "it isn't in this federation" if kind == "NotMember" else f"{kind} to Compare")
        self.members.add(connection)
        theirs = {int(at): bytes.fromhex(text) for at, text in of["fingerprints"].items()}
        buckets, after = [at for at in theirs if theirs[at] != prints.get(at)], None
        while buckets:
            kind, of = await self.ask_sync(connection, "Items", buckets=buckets, after=after)
            need(kind == "Page", f"{kind} to Items")
            for item in of["items"]:
                self.take_item(item)
            before, after = after, of["next"]
            if after is None:
                break
            place = (after["bucket"], after["text"].encode())
            need(before is None or place > (before["bucket"], before["text"].encode()), "pages that go back")
        self.news.set()

    def take_item(self, item):
        try:
            if "proof" in item:
                self.entries.take_proof(*map(check.unhex, item["proof"]))
            else:
                self.entries.take(check.unhex(item["entry"]))
        except Newer:
            pass

    async def answer_sync(self, connection, stream):
        request = await stream.take_framed(2176)
        kind, of = check.read_message(check.SYNC_REQUESTS, 2176, check.frame(request))
        if of["federation"] != self.federation.hex():
            kind, of = "NotMember", {}
        elif kind == "Compare":
            self.members.add(connection)
            prints = self.entries.prints()
            mine, theirs = check.digest(prints), bytes.fromhex(of["digest"])
            kind, of = "Same", {}
            if mine != theirs:
                kind, of = "Differs", {"fingerprints": {str(at): data.hex() for at, data in prints.items()}}
                if self.compared.get(connection) != (mine, theirs):
                    self.compared[connection] = (mine, theirs)
                    connection.start(self.compare_with(connection))
        elif kind == "Items":
            kind, of = "Page", self.entries.page(set(of["buckets"]), of["after"])
        else:
            try:
                self.entries.take_proof(*map(check.unhex, of["entries"]))
                kind, of = "Same", {}
            except (Refused, Newer):
                kind, of = "NotMember", {}
        await stream.send_all(check.message(kind, of))
        stream.close()

    # Blobs

    async def answer_blobs(self, connection, stream):
        request = await stream.take_framed(2176)
        kind, of = check.read_message(check.BLOB_REQUESTS, 2176, check.frame(request))
        peer = peer_text(connection.peer)
        if of["federation"] != self.federation.hex():
            await stream.send_all(check.message("NotMember", {}))
        elif kind == "Get":
            await self.give(connection, stream, of["hashes"])
        else:
            if kind == "Holds":
                self.tell("held", peer=peer, roots=of["roots"])
            elif kind == "Keep":
                self.keep(connection, check.unhex(of["entry"]))
            # Fetching: this peer takes each value whole from one peer.
            await stream.send_all(check.message("Noted", {}))
        stream.close()

    def keep(self, connection, data):
        """Fetches the value of a peer that is about to leave."""
        public, entry = check.read_entry(data)
        need(public == connection.peer, "another's entry to keep")
        if self.entries.take(data):
            self.news.set()
        if "put" in entry:
            self.tell("asked_to_keep", peer=peer_text(public), name=entry["name"])
            connection.start(self.keep_value(connection, public, entry))

    async def keep_value(self, connection, author, entry):
        try:
            if bytes.fromhex(entry["put"]["root"]) not in self.blobs:
                await self.fetch(author, entry)
            await self.say_holds(connection, entry["put"]["root"])
        except (Refused, Ended, OSError) as error:
            self.tell("not_kept", peer=peer_text(author), name=entry["name"], reason=str(error))

    async def say_holds(self, connection, root):
        request = check.message("Holds", {"federation": self.federation.hex(), "roots": [root]})
        stream = await self.ask(connection, BLOB, request)
        await stream.take_framed(16)
        connection.streams.pop(stream.number, None)

    async def give(self, connection, stream, hashes):
        """The first of what is asked for, as far as an answer may go."""
        given, length = [], 0
        for hash_ in hashes:
            blob = self.blobs.get(bytes.fromhex(hash_))
            if given and length + len(blob or b"") > MOST_BLOBS:
                break
            given.append(blob)
            length += len(blob or b"")
        data = [check.frame(varint(1) + varint(len(given)))]
        data += [b"\xff" * 4 if blob is None else check.frame(blob) for blob in given]
        await stream.send_all(b"".join(data))
        had = sum(blob is not None for blob in given)
        self.tell("served", peer=peer_text(connection.peer), blobs=had, missing=len(given) - had, bytes=length)

    async def get(self, connection, hashes):
        """As many of the first blobs as the other gives in one answer, verified; none for what it doesn't have."""
        request = check.message("Get", {"federation": self.federation.hex(), "hashes": [of.hex() for of in hashes]})
        stream = await self.ask(connection, BLOB, request)
        answer = Reader(await stream.take_framed(16))
        need(answer.varint(32) == 1, "no Blobs to Get")
        blobs = []
        for hash_ in hashes[: answer.varint(32)]:
            length = struct.unpack("<I", await stream.take(4))[0]
            if length == 0xFFFFFFFF:
                blobs.append(None)
                continue
            need(length <= 16 << 20, "a blob over its limit")
            blobs.append(await stream.take(length))
            need(blake3(blobs[-1]) == hash_, "a blob with another hash")
        connection.streams.pop(stream.number, None)
        need(blobs, "no blobs to Get")
        return blobs

    async def fetch(self, author, entry):
        """Manifest, tensors and chunks of an entry's value: from its author first, then from any other. They are kept."""
        reason = "nobody is connected"
        for connection in sorted(self.connections, key=lambda connection: connection.peer != author):
            try:
                encoded, tensors, chunks = await self.fetch_from(connection, entry)
                self.hold(encoded, chunks)
                return encoded, tensors, chunks
            except (Refused, Ended, OSError) as error:
                reason = str(error)
        raise Refused(f"{entry['name']} of {peer_text(author)} wasn't to be had: {reason}")

    async def fetch_from(self, connection, entry):
        put = entry["put"]
        [encoded] = await self.get(connection, [bytes.fromhex(put["root"])])
        need(encoded is not None, "it doesn't have the manifest")
        tensors, hashes, _ = check.read_manifest(encoded)
        need(check.layout_id(tensors).hex() == entry["layout"], "another layout than the entry's")
        need(check.value_length(tensors) == put["length"], "another length than the entry's")
        wanted, found = list(dict.fromkeys(hashes)), {}
        while len(found) < len(wanted):
            asked = [hash_ for hash_ in wanted if hash_ not in found][:2]
            blobs = await self.get(connection, asked)
            need(None not in blobs, "it doesn't have all chunks")
            found |= zip(asked, blobs)
        sizes = [sum(end - start for _, start, end in pieces) for pieces in check.chunk_plan(tensors)]
        chunks = [found[hash_] for hash_ in hashes]
        need(list(map(len, chunks)) == sizes, "a chunk of another length")
        return encoded, tensors, chunks

    # Publishing

    def sign(self, name, layout, put, sequence=None):
        """An entry under the next number: above all of the own that anybody has shown."""
        if sequence is None:
            sequence = self.sequence = 1 + max(self.sequence, self.entries.sequence(self.public))
        entry = {"federation": self.federation.hex(), "layout": layout, "name": name, "sequence": sequence}
        return check.signed(self.secret, check.body_of(entry | ({"put": put} if put else {}), self.public))

    def publish(self, data):
        self.entries.take(data)
        self.gossip(data)

    def hold(self, encoded, chunks):
        """Gives this value to whoever asks, and the last ones before it too, as some may be fetching them still."""
        value = {blake3(of): of for of in (encoded, *chunks)}
        self.blobs = dict(list(self.blobs.items())[-1024:]) | value


def shifted(tensors, chunks, by):
    """Manifest and chunks of the same tensors with so much added to each f32."""
    data = [bytearray(check.tensor_bytes(tensor)) for tensor in tensors]
    for pieces, chunk in zip(check.chunk_plan(tensors), chunks):
        at = 0
        for number, start, end in pieces:
            data[number][start:end] = chunk[at : at + end - start]
            at += end - start
    for number, tensor in enumerate(tensors):
        if tensor["dtype"] == "f32":
            count = len(data[number]) // 4
            values = struct.unpack(f"<{count}f", data[number])
            data[number] = struct.pack(f"<{count}f", *(value + by for value in values))
    chunks = check.chunks_of(tensors, list(map(bytes, data)))
    return check.manifest(tensors, list(map(blake3, chunks)), {}), chunks


async def take_and_publish(peer, arguments):
    """Publishes what the others have published last, so many times."""
    last = -1
    while arguments.updates is None or arguments.updates > 0:
        await peer.news.wait()
        peer.news.clear()
        newest = peer.entries.newest({peer.public})
        if newest is None or newest[1]["put"]["epoch"] <= last:
            continue
        author, entry = newest
        if arguments.layout not in (None, entry["layout"]):
            continue
        try:
            encoded, tensors, chunks = await peer.fetch(author, entry)
        except Refused as error:
            tell("not_taken", author=peer_text(author), name=entry["name"], reason=str(error))
            continue
        put = entry["put"]
        last = put["epoch"]
        tell("took", author=peer_text(author), epoch=last, root=put["root"], bytes=sum(map(len, chunks)))
        if arguments.shift:
            encoded, chunks = shifted(tensors, chunks, arguments.shift)
        peer.hold(encoded, chunks)
        others = sum(public != peer.public for public in peer.entries.authors)
        put = put | {"root": blake3(encoded).hex(), "metrics": {"degree": float(others)}}
        data = peer.sign(f"update/{last}", entry["layout"], put)
        peer.publish(data)
        tell("published", epoch=last, root=put["root"], sequence=peer.sequence)
        for connection in peer.connections:
            if connection.peer == author:
                # It need not stay for others that lack its update.
                connection.start(peer.keep_value(connection, author, entry))
        if arguments.updates is not None:
            arguments.updates -= 1


def secret_in(path):
    head, secret = Path(path).read_text(encoding="utf-8").split("\n", 1)
    need(re.fullmatch("peerfold secret 1(:.*)?", head), f"{path} is no secret of version 1")
    secret = check.read_pasted(secret)
    need(len(secret) == 32, f"{path} has no 32 bytes")
    return secret


async def join(arguments):
    federation = check.federation_id(arguments.federation, arguments.run)
    peer = Peer(federation, bytes.fromhex(arguments.identity), arguments.secret and secret_in(arguments.secret))
    tell("started", peer=peer_text(peer.public), federation=federation.hex())
    connections = []
    for address in arguments.addresses:
        connections.append(await peer.connect(address))
    publishing = asyncio.ensure_future(take_and_publish(peer, arguments))

    async def compare():
        while True:
            await asyncio.sleep(60)
            await asyncio.gather(*map(peer.compare_with, peer.connections))

    comparing = asyncio.ensure_future(compare())
    # It serves what it has published as long as anybody is connected.
    await asyncio.wait(connections, timeout=arguments.seconds)
    for task in (publishing, comparing):
        if task.done():
            task.result()
        task.cancel()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("join", help="take, publish and serve")
    command.add_argument("addresses", nargs="+", metavar="ADDRESS", help="/ip4/HOST/tcp/PORT/p2p/PEER of a node")
    command.add_argument("--federation", required=True, metavar="NAME")
    command.add_argument("--run", default="1")
    command.add_argument("--identity", default=os.urandom(32).hex(), help="64 digits of an Ed25519 secret key")
    command.add_argument("--secret", metavar="FILE", help="the federation's, if it has one")
    command.add_argument("--layout", metavar="ID", help="64 digits; take updates of this layout only")
    command.add_argument("--shift", type=float, default=0.0, help="add so much to each weight")
    command.add_argument("--updates", type=int, metavar="N", help="publish so many, then only serve")
    command.add_argument("--seconds", type=float, help="end after so long")
    arguments = parser.parse_args()
    if not re.fullmatch("[0-9a-f]{64}", arguments.identity) or not math.isfinite(arguments.shift):
        parser.error("--identity must be 64 hexadecimal digits, and --shift finite")
    try:
        asyncio.run(join(arguments))
    except (Refused, Ended, OSError, asyncio.IncompleteReadError) as error:
        sys.exit(f"error: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
