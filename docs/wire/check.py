#!/usr/bin/env python3
"""A second implementation of what docs/wire.md describes, in Python's standard library alone.

    python3 docs/wire/check.py                 checks every vector of the page
    python3 docs/wire/check.py --fill          computes them anew, for a change of the protocol
    python3 docs/wire/check.py --join DIR FEDERATION RUN SECRET
                                               publishes in a shared directory what another author has there

Of each vector it computes what the page says comes out, and it reads the bytes back by rules of its own. The last form
is a node of a few lines: it verifies the others' newest update in a directory, and publishes the same weights under an
identity of its own, as often as it is called. Nothing here is fast, and the arithmetic takes different time for
different secrets: use it for tests only.
"""

import hashlib
import json
import os
import re
import struct
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "wire.md"


class Refused(Exception):
    """Bytes that a node must not accept."""


class Newer(Exception):
    """Bytes of a later version: not accepted, but nobody is to blame."""


def need(condition, what):
    if not condition:
        raise Refused(what)


# BLAKE3

IV = [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19]
PERMUTATION = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED, CONTEXT, MATERIAL = 1, 2, 4, 8, 16, 32, 64


def compress(chaining, block, counter, length, flags):
    def turn(word, by):
        return (word >> by | word << (32 - by)) & 0xFFFFFFFF

    def mix(a, b, c, d, x, y):
        for word, right, left in (x, 16, 12), (y, 8, 7):
            s[a] = (s[a] + s[b] + word) & 0xFFFFFFFF
            s[d] = turn(s[d] ^ s[a], right)
            s[c] = (s[c] + s[d]) & 0xFFFFFFFF
            s[b] = turn(s[b] ^ s[c], left)

    words = list(struct.unpack("<16I", block.ljust(64, b"\0")))
    s = [*chaining, *IV[:4], counter & 0xFFFFFFFF, counter >> 32, length, flags]
    for _ in range(7):
        for at in range(4):
            mix(at, 4 + at, 8 + at, 12 + at, words[2 * at], words[2 * at + 1])
        for at in range(4):
            mix(at, 4 + (at + 1) % 4, 8 + (at + 2) % 4, 12 + (at + 3) % 4, words[8 + 2 * at], words[9 + 2 * at])
        words = [words[at] for at in PERMUTATION]
    return [s[at] ^ s[at + 8] for at in range(8)] + [s[at + 8] ^ chaining[at] for at in range(8)]


def blake3(data, key=IV, flags=0, length=32):
    """As many bytes of the hash."""

    def chunk(bytes_, number):
        """The arguments of the last compression of a chunk."""
        chaining = key
        blocks = [bytes_[at : at + 64] for at in range(0, len(bytes_), 64)] or [b""]
        for at, block in enumerate(blocks):
            here = flags | (CHUNK_START if at == 0 else 0) | (CHUNK_END if at == len(blocks) - 1 else 0)
            if at == len(blocks) - 1:
                return chaining, block, number, len(block), here
            chaining = compress(chaining, block, number, 64, here)[:8]

    def tree(bytes_, first):
        if len(bytes_) <= 1024:
            return chunk(bytes_, first)
        chunks = (len(bytes_) - 1) // 1024
        left = 1 << (chunks.bit_length() - 1)
        halves = tree(bytes_[: left * 1024], first), tree(bytes_[left * 1024 :], first + left)
        block = b"".join(struct.pack("<8I", *compress(*half)[:8]) for half in halves)
        return key, block, 0, 64, flags | PARENT

    chaining, block, _, of_block, last = tree(bytes(data), 0)
    blocks = (compress(chaining, block, number, of_block, last | ROOT) for number in range(-(-length // 64)))
    return b"".join(struct.pack("<16I", *words) for words in blocks)[:length]


def derive_key(context, material):
    key = blake3(context.encode(), flags=CONTEXT)
    return blake3(material, words_of(key), MATERIAL)


def words_of(data):
    return list(struct.unpack(f"<{len(data) // 4}I", data))


def keyed_hash(key, data, length=32):
    return blake3(data, words_of(key), KEYED, length)


# XChaCha20-Poly1305


def chacha(words, add):
    def mix(a, b, c, d):
        for to, by, turn, left in (a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7):
            s[to] = (s[to] + s[by]) & 0xFFFFFFFF
            word = s[turn] ^ s[to]
            s[turn] = (word << left | word >> (32 - left)) & 0xFFFFFFFF

    s = list(words)
    for _ in range(10):
        for at in range(4):
            mix(at, 4 + at, 8 + at, 12 + at)
        for at in range(4):
            mix(at, 4 + (at + 1) % 4, 8 + (at + 2) % 4, 12 + (at + 3) % 4)
    return [(one + other) & 0xFFFFFFFF for one, other in zip(s, words)] if add else s


SIGMA = words_of(b"expand 32-byte k")


def xchacha(key, nonce, length):
    """Key of the tag, and the key stream that data of this length is combined with."""
    mixed = chacha([*SIGMA, *words_of(key), *words_of(nonce[:16])], False)
    words = [*SIGMA, *mixed[:4], *mixed[12:]]
    rest = [0, *words_of(nonce[16:])]
    blocks = (struct.pack("<16I", *chacha([*words, number, *rest], True)) for number in range(1 + -(-length // 64)))
    return next(blocks)[:32], b"".join(blocks)[:length]


def poly1305(key, data):
    r, s = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF, int.from_bytes(key[16:], "little")
    sum_ = 0
    for at in range(0, len(data), 16):
        sum_ = (sum_ + int.from_bytes(data[at : at + 16] + b"\1", "little")) * r % (2**130 - 5)
    return ((sum_ + s) % 2**128).to_bytes(16, "little")


def xor(one, other):
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(len(one), "big")


def tag_of(key, data, associated):
    padded = b"".join(part + bytes(-len(part) % 16) for part in (associated, data))
    return poly1305(key, padded + struct.pack("<QQ", len(associated), len(data)))


def encrypted(key, nonce, data, associated=b""):
    of_tag, stream = xchacha(key, nonce, len(data))
    data = xor(data, stream)
    return data + tag_of(of_tag, data, associated)


def decrypted(key, nonce, data, associated=b""):
    need(len(data) >= 16, "no room for a tag")
    data, tag = data[:-16], data[-16:]
    of_tag, stream = xchacha(key, nonce, len(data))
    need(tag_of(of_tag, data, associated) == tag, "another key, or changed")
    return xor(data, stream)


# Ed25519

P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def add(one, other):
    (x1, y1, z1, t1), (x2, y2, z2, t2) = one, other
    a, b = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(number, point):
    product = (0, 1, 1, 0)
    while number:
        if number & 1:
            product = add(product, point)
        point, number = add(point, point), number >> 1
    return product


def point(encoded):
    number = int.from_bytes(encoded, "little")
    y, sign = number % 2**255 % P, number >> 255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    need((x * x - square) % P == 0, "no point of the curve")
    if x & 1 != sign:
        x = P - x
    return x % P, y, 1, x * y % P


def encoded_point(of):
    x, y, z, _ = of
    inverse = pow(z, -1, P)
    return (y * inverse % P | (x * inverse % P & 1) << 255).to_bytes(32, "little")


BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def scalar(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % L


def expanded(secret):
    hashed = hashlib.sha512(secret).digest()
    number = int.from_bytes(hashed[:32], "little")
    return number & ((1 << 254) - 8) | 1 << 254, hashed[32:]


def public_key(secret):
    return encoded_point(times(expanded(secret)[0], BASE))


def signature(secret, message):
    a, prefix = expanded(secret)
    r = scalar(prefix, message)
    public, commitment = public_key(secret), encoded_point(times(r, BASE))
    return commitment + ((r + scalar(commitment, public, message) * a) % L).to_bytes(32, "little")


def is_signed(public, message, by):
    commitment, s = by[:32], int.from_bytes(by[32:], "little")
    x, y, z, t = point(public)
    k = scalar(commitment, public, message)
    return s < L and encoded_point(add(times(s, BASE), times(k, (-x % P, y, z, -t % P)))) == commitment


# Peer ids

DIGITS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def peer_bytes(public):
    return bytes([0, 36, 8, 1, 18, 32]) + public


def peer_text(public):
    data = peer_bytes(public)
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = DIGITS[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def peer_public(text):
    number = 0
    for digit in text:
        number = 58 * number + DIGITS.index(digit)
    data = b"\0" * (len(text) - len(text.lstrip("1"))) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    need(data[:6] == peer_bytes(b"") and len(data) == 38 and peer_text(data[6:]) == text, "no peer id")
    return data[6:]


# postcard


def varint(number):
    data = bytearray()
    while number >= 128:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes(data) + bytes([number])


def string(data):
    data = data.encode() if isinstance(data, str) else data
    return varint(len(data)) + data


def listed(items):
    return varint(len(items)) + b"".join(items)


def optional(item):
    return b"\0" if item is None else b"\1" + item


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        need(self.at + length <= len(self.data), "it ends early")
        self.at += length
        return self.data[self.at - length : self.at]

    def byte(self):
        return self.take(1)[0]

    def varint(self, bits=64):
        number, shift = 0, 0
        while True:
            byte = self.byte()
            number |= (byte & 127) << shift
            need(number < 1 << bits and shift < bits, "a number too large")
            if byte < 128:
                return number
            shift += 7

    def bytes(self):
        return self.take(self.varint())

    def text(self):
        try:
            return self.bytes().decode()
        except UnicodeDecodeError:
            raise Refused("no UTF-8") from None

    def many(self, read, most):
        count = self.varint()
        need(count <= most, "too many")
        return [read() for _ in range(count)]

    def optional(self, read):
        is_there = self.byte()
        need(is_there < 2, "no option")
        return read() if is_there else None

    def u32(self):
        return struct.unpack("<I", self.take(4))[0]

    def rest(self):
        return self.take(len(self.data) - self.at)


# Layouts, chunks, manifests

DTYPES = "f64 f32 f16 bf16 i64 i32 u8 bool i8 i16 u16 u32 u64".split()
SIZES = [8, 4, 2, 2, 8, 4, 1, 1, 1, 2, 2, 4, 8]
CHUNK, PACKED_BELOW = 1 << 20, 1 << 16


def tensor_bytes(tensor):
    size = SIZES[DTYPES.index(tensor["dtype"])]
    for side in tensor["shape"]:
        size *= side
    return size


def by_name(tensors):
    return sorted(tensors, key=lambda tensor: tensor["name"].encode())


def value_length(tensors):
    return sum(map(tensor_bytes, tensors))


def layout_id(tensors):
    data = struct.pack("<Q", len(tensors))
    for tensor in by_name(tensors):
        name, shape = tensor["name"].encode(), tensor["shape"]
        data += struct.pack("<Q", len(name)) + name + bytes([DTYPES.index(tensor["dtype"])])
        data += struct.pack(f"<{1 + len(shape)}Q", len(shape), *shape)
    return derive_key("peerfold 2026 layout id v1", data)


def chunk_plan(tensors):
    """Of each chunk its pieces: number of the tensor, first byte, end."""
    sizes = list(enumerate(map(tensor_bytes, by_name(tensors))))
    chunks, filled = [], CHUNK
    for number, size in sizes:
        if 0 < size < PACKED_BELOW:
            if filled + size > CHUNK:
                chunks.append([])
                filled = 0
            chunks[-1].append([number, 0, size])
            filled += size
    for number, size in sizes:
        if size >= PACKED_BELOW:
            chunks += [[[number, at, min(at + CHUNK, size)]] for at in range(0, size, CHUNK)]
    return chunks


def chunks_of(tensors, data):
    """The bytes of each chunk; data in the order of the names."""
    return [b"".join(data[number][start:end] for number, start, end in pieces) for pieces in chunk_plan(tensors)]


def manifest(tensors, hashes, annotations):
    specs = [
        string(tensor["name"]) + bytes([DTYPES.index(tensor["dtype"])]) + listed(list(map(varint, tensor["shape"])))
        for tensor in by_name(tensors)
    ]
    encoded = bytes([2 if annotations else 1]) + listed(specs) + listed(hashes)
    if annotations:
        pairs = sorted((name.encode(), text.encode()) for name, text in annotations.items())
        encoded += listed([string(name) + string(text) for name, text in pairs])
    return encoded


def read_manifest(data):
    need(len(data) <= 1 << 24, "a manifest that is too long")
    reader = Reader(data)
    version = reader.byte()
    need(version in (1, 2), "a manifest of another version")

    def spec():
        name, dtype = reader.text(), reader.varint(32)
        need(dtype < len(DTYPES), "no such type")
        return {"name": name, "dtype": DTYPES[dtype], "shape": reader.many(reader.varint, 8)}

    tensors = reader.many(spec, 65_536)
    hashes = reader.many(lambda: reader.take(32), len(data) // 32)
    annotations = dict(reader.many(lambda: (reader.text(), reader.text()), 4096)) if version == 2 else {}
    names = [tensor["name"] for tensor in tensors]
    need(len(set(names)) == len(names) and all(len(name.encode()) <= 256 for name in names), "its names")
    need(sum(len(name.encode()) for name in names) <= 1 << 22 and value_length(tensors) <= 1 << 36, "its length")
    texts = [text for pair in annotations.items() for text in pair]
    need(sum(len(text.encode()) for text in texts) <= 1 << 20, "its annotations")
    need(len(hashes) == len(chunk_plan(tensors)), "as many hashes as chunks")
    need(manifest(tensors, hashes, annotations) == data, "another form")
    return tensors, hashes, annotations


# Entries

DOMAIN = b"peerfold/entry\0"


def signed(secret, body):
    return body + signature(secret, DOMAIN + body)


def body_of(entry, public):
    put = entry.get("put")
    content = varint(1)
    if put:
        metrics = sorted((name.encode(), value) for name, value in put["metrics"].items())
        metrics = [string(name) + struct.pack("<d", value) for name, value in metrics]
        content = varint(0) + bytes.fromhex(put["root"]) + varint(put["length"]) + varint(put["epoch"])
        content += varint(put["num_examples"]) + listed(metrics)
    ids = bytes.fromhex(entry["federation"]) + bytes.fromhex(entry["layout"]) + public
    return bytes([1]) + ids + string(entry["name"]) + varint(entry["sequence"]) + content


def read_entry(data):
    """Author and fields of a signed entry, verified."""
    need(len(data) <= 1024 and data, "its length")
    if data[0] != 1:
        raise Newer(f"version {data[0]}")
    need(len(data) >= 64, "too short for a signature")
    body, by = data[:-64], data[-64:]
    reader = Reader(body)
    reader.byte()
    federation, layout, public = (reader.take(32) for _ in range(3))
    entry = {"federation": federation.hex(), "layout": layout.hex(), "name": reader.text()}
    entry["sequence"] = reader.varint()
    kind, metrics = reader.varint(32), []
    need(kind < 2, "neither put nor tombstone")
    if kind == 0:
        put = {"root": reader.take(32).hex(), "length": reader.varint()}
        put |= {"epoch": reader.varint(), "num_examples": reader.varint()}
        # No more fit into an entry.
        metrics = reader.many(lambda: (reader.text(), struct.unpack("<d", reader.take(8))[0]), 128)
        entry["put"] = put | {"metrics": dict(metrics)}
    end = reader.rest()
    names = [name.encode() for name, _ in metrics]
    need(len(names) <= 16 and all(len(name) <= 24 for name in names), "its metrics")
    need(all(one < other for one, other in zip(names, names[1:])), "the order of its metrics")
    need(body_of(entry, public) == body[: len(body) - len(end)], "another form")
    need(entry["name"] and len(peer_text(public)) + 1 + len(entry["name"].encode()) <= 128, "its name")
    encoding = read_encoding(end)
    need(not encoding or kind == 0, "a tombstone with an encoding")
    need(is_signed(public, DOMAIN + body, by), "its signature")
    if encoding:
        raise Newer(encoding)
    return public, entry


def read_encoding(end):
    if not end:
        return None
    flags = end[0]
    need(flags != 0, "flags without a meaning")
    if flags & ~3:
        return f"flags {flags}"
    need(len(end) == 1 + (32 if flags & 1 else 0) + (1 if flags & 2 else 0), "the length of its encoding")
    return f"flags {flags}"


def verdict(data):
    try:
        read_entry(data)
        return "accepted"
    except Newer:
        return "ignored"
    except Refused:
        return "refused"


# Entry sets


def bucket_of(public):
    return blake3(peer_bytes(public))[0]


def fingerprints(entries, excluded):
    """Of each bucket that isn't empty; entries are whole signed entries, the newest of their keys."""
    found = {}
    for data in entries:
        public, entry = read_entry(data)
        found.setdefault(public, []).append((entry["name"].encode(), data))
    for public in excluded:
        found[public] = []
    buckets = {}
    for public in sorted(found):
        hashed = b"x" + peer_bytes(public) if public in excluded else b""
        hashed += b"".join(b"e" + blake3(data) for _, data in sorted(found[public]))
        buckets[bucket_of(public)] = buckets.get(bucket_of(public), b"") + hashed
    return {at: derive_key("peerfold 2026 bucket fingerprint v1", data)[:16] for at, data in buckets.items()}


def all_fingerprints(of):
    return b"".join(of.get(at, bytes(16)) for at in range(256))


def digest(of):
    return derive_key("peerfold 2026 folder digest v2", all_fingerprints(of))


# Messages


def frame(message):
    return struct.pack("<I", len(message)) + message


def position(at):
    return None if at is None else bytes([at["bucket"]]) + string(at["text"])


def item(of):
    entries = [string(unhex(entry)) for entry in of["proof"]] if "proof" in of else [string(unhex(of["entry"]))]
    return varint(1 if "proof" in of else 0) + b"".join(entries)


def hashes(of):
    return listed([bytes.fromhex(text) for text in of])


def message(kind, of):
    """A frame, by the name of the message and its fields; blobs follow theirs."""
    federation = bytes.fromhex(of.get("federation", ""))
    if kind == "Compare":
        return frame(varint(0) + federation + bytes.fromhex(of["digest"]))
    if kind in ("Items", "Others"):
        buckets = bytearray(32)
        for bucket in of["buckets"]:
            buckets[bucket // 8] |= 1 << bucket % 8
        data = varint(1 if kind == "Items" else 3) + federation + bytes(buckets) + optional(position(of["after"]))
        return frame(data + (hashes(of["named"]) if kind == "Others" else b""))
    if kind == "Proof":
        return frame(varint(2) + federation + b"".join(string(unhex(entry)) for entry in of["entries"]))
    if kind in ("NotMember", "Same"):
        return frame(varint(["NotMember", "Same"].index(kind)))
    if kind == "Differs":
        of = {int(at): bytes.fromhex(text) for at, text in of["fingerprints"].items()}
        return frame(varint(2) + string(all_fingerprints(of)))
    if kind == "Page":
        return frame(varint(3) + listed(list(map(item, of["items"]))) + optional(position(of["next"])))
    if kind == "Get":
        return frame(varint(0) + federation + hashes(of["hashes"]))
    if kind == "Holds":
        return frame(varint(1) + federation + hashes(of["roots"]))
    if kind == "Keep":
        return frame(varint(2) + federation + string(unhex(of["entry"])))
    if kind == "Fetching":
        return frame(varint(3) + federation + bytes.fromhex(of["root"]) + hashes(of["hashes"]))
    if kind == "Noted":
        return frame(varint(2))
    if kind == "Later":
        return frame(varint(3) + varint(of["seconds"]))
    assert kind == "Blobs", kind
    data = frame(varint(1) + varint(len(of["blobs"])))
    for blob in of["blobs"]:
        data += b"\xff" * 4 if blob is None else frame(unhex(blob))
    return data


SYNC_REQUESTS, SYNC_ANSWERS = ["Compare", "Items", "Proof", "Others"], ["NotMember", "Same", "Differs", "Page"]
BLOB_REQUESTS, BLOB_ANSWERS = ["Get", "Holds", "Keep", "Fetching"], ["NotMember", "Blobs", "Noted", "Later"]


def read_message(names, limit, data):
    """Name and fields of a message."""
    stream = Reader(data)
    length = stream.u32()
    need(length <= limit, "a frame over its limit")
    reader = Reader(stream.take(length))
    kind = reader.varint(32)
    need(kind < len(names), "no such message")
    kind, of = names[kind], {}

    def read_position():
        return {"bucket": reader.byte(), "text": reader.text()}

    def read_item():
        kind = reader.varint(32)
        need(kind < 2, "no such item")
        return {"proof": [hexed(reader.bytes()) for _ in range(2)]} if kind else {"entry": hexed(reader.bytes())}

    if names in (SYNC_REQUESTS, BLOB_REQUESTS):
        of["federation"] = reader.take(32).hex()
    if kind == "Compare":
        of["digest"] = reader.take(32).hex()
    elif kind in ("Items", "Others"):
        bits = reader.take(32)
        of["buckets"] = [bucket for bucket in range(256) if bits[bucket // 8] >> bucket % 8 & 1]
        of["after"] = reader.optional(read_position)
        if kind == "Others":
            of["named"] = reader.many(lambda: reader.take(8).hex(), 512)
    elif kind == "Proof":
        of["entries"] = [hexed(reader.bytes()) for _ in range(2)]
    elif kind == "Differs":
        prints = reader.bytes()
        need(len(prints) == 4096, "not 256 fingerprints")
        prints = {at: prints[16 * at : 16 * at + 16] for at in range(256)}
        of["fingerprints"] = {str(at): data.hex() for at, data in prints.items() if any(data)}
    elif kind == "Page":
        of["items"] = reader.many(read_item, 128)
        of["next"] = reader.optional(read_position)
    elif kind in ("Get", "Holds"):
        read = reader.many(lambda: reader.take(32).hex(), 64)
        of["hashes" if kind == "Get" else "roots"] = read
    elif kind == "Keep":
        of["entry"] = hexed(reader.bytes())
    elif kind == "Fetching":
        of["root"] = reader.take(32).hex()
        of["hashes"] = reader.many(lambda: reader.take(32).hex(), 64)
    elif kind == "Later":
        of["seconds"] = reader.varint(32)
    elif kind == "Blobs":
        count = reader.varint(32)
        need(count <= 64, "too many blobs")
        of["blobs"] = []
        for _ in range(count):
            length = stream.u32()
            of["blobs"].append(None if length == 0xFFFFFFFF else hexed(stream.take(length)))
    need(not reader.rest(), "something follows it")
    return kind, of


# Secrets

SECRET = "peerfold secret 1: whoever has this file can read and join the federation\n"
JOIN = "peerfold-join-1-"
LETTERS = "abcdefghijklmnopqrstuvwxyz234567"


def base32(data):
    bits = "".join(f"{byte:08b}" for byte in data)
    return "".join(LETTERS[int(bits[at : at + 5].ljust(5, "0"), 2)] for at in range(0, len(bits), 5))


def of_base32(text):
    need(set(text) <= set(LETTERS), "no base32")
    bits = "".join(f"{LETTERS.index(letter):05b}" for letter in text)
    data = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits) - 7, 8))
    need(base32(data) == text, "another spelling")
    return data


def pasted(content):
    counted = struct.pack("<H", len(content)) + content
    return base32(counted + blake3(counted)[:4])


def read_pasted(text):
    data = of_base32("".join(text.split()).lower())
    need(len(data) >= 6 and blake3(data[:-4])[:4] == data[-4:], "changed")
    need(struct.unpack("<H", data[:2])[0] == len(data) - 6, "cut short, or longer")
    return data[2:-4]


def federation_id(name, run):
    name = name.encode()
    return derive_key("peerfold 2026 federation id v1", struct.pack("<Q", len(name)) + name + run.encode())


class Seal:
    """What hides a federation's objects in a bucket."""

    def __init__(self, secret, federation):
        def key(use, of=federation):
            return derive_key(f"peerfold 2026 bucket {use} v1", secret + of)

        self.place, self.check = key("place")[:8].hex(), key("check", b"").hex()
        self.name_tags, self.name_streams = key("name tags"), key("name streams")
        self.record_nonces, self.records = key("record nonces"), key("records")
        self.chunk_nonces, self.chunks = key("chunk nonces"), key("chunks")

    def name(self, packed):
        tag = keyed_hash(self.name_tags, packed)[:12]
        return base32(tag + xor(packed, keyed_hash(self.name_streams, tag, len(packed))))

    def open_name(self, text):
        sealed = of_base32(text)
        packed = xor(sealed[12:], keyed_hash(self.name_streams, sealed[:12], len(sealed) - 12))
        need(keyed_hash(self.name_tags, packed)[:12] == sealed[:12], "another secret's name")
        return packed

    @staticmethod
    def nonce(key, *of):
        return keyed_hash(key, b"".join(struct.pack("<Q", len(part)) + part for part in of))[:24]

    def record(self, name, record):
        nonce = self.nonce(self.record_nonces, name.encode(), record)
        return nonce + encrypted(self.records, nonce, record, name.encode())

    def open_record(self, name, sealed):
        return decrypted(self.records, sealed[:24], sealed[24:], name.encode())

    def chunk(self, holder, chunk):
        return encrypted(self.chunks, self.nonce(self.chunk_nonces, peer_bytes(holder), blake3(chunk)), chunk)

    def open_chunk(self, holder, hash_, sealed):
        return decrypted(self.chunks, self.nonce(self.chunk_nonces, peer_bytes(holder), hash_), sealed)


# Files and objects


def entry_file(data, sequence):
    return f"{sequence:020}-{blake3(data).hex()[:16]}.entry"


def shown_key(name, most):
    if re.fullmatch("update/(0|[1-9][0-9]*)", name) and int(name[7:]) < 1 << 64:
        return name.replace("/", ".")
    shown = re.sub("[^A-Za-z0-9_-]", ".", name[:most])
    return "_" + shown if shown.startswith("update.") else shown


def object_names(data, holder, prefix):
    """The names of an entry's object in its author's directory, and in a member's that relays it."""
    public, entry = read_entry(data)
    directory = f"{prefix}/{entry['federation'][:16]}/"
    author, end = peer_text(public), f"{blake3(data).hex()[:8]}.entry"
    own = f"{author}/entries/{entry['sequence']:020}.{shown_key(entry['name'], 20)}.{end}"
    shown = shown_key(entry["name"], 12)
    relayed = f"{peer_text(holder)}/relayed/{author[-6:]}.{entry['sequence']:020}.{shown}.{end}"
    return directory + own, directory + relayed


def record(data, encoded, chunks):
    """The object of an entry whose chunks lie in one pack, one after the other, and that pack."""
    pack = b"".join(chunks)
    head = struct.pack("<I", len(encoded)) + encoded + struct.pack("<I", 1)
    head += blake3(pack)[:16] + struct.pack("<I", len(pack))
    at = 0
    for chunk in chunks:
        head += struct.pack("<II", 0, at)
        at += len(chunk)
    return struct.pack("<H", len(data)) + data + head, pack


def read_record(data):
    """Entry, manifest, packs with their lengths, and the place of each chunk."""
    reader = Reader(data)
    signed_entry = reader.take(struct.unpack("<H", reader.take(2))[0])
    _, entry = read_entry(signed_entry)
    encoded = reader.take(reader.u32())
    need(blake3(encoded).hex() == entry["put"]["root"], "its manifest")
    tensors, chunk_hashes, _ = read_manifest(encoded)
    need(layout_id(tensors).hex() == entry["layout"], "its layout")
    need(value_length(tensors) == entry["put"]["length"], "its length")
    packs = [(reader.take(16), reader.u32()) for _ in range(reader.u32())]
    spots = [(reader.u32(), reader.u32()) for _ in chunk_hashes]
    need(not reader.rest(), "something follows it")
    return signed_entry, encoded, packs, spots


# The vectors


def hexed(data):
    return {"hex": [data[at : at + 48].hex() for at in range(0, len(data), 48)]}


def unhex(of):
    return bytes.fromhex("".join(of["hex"]))


def told(data):
    """Bytes in full, if they are few."""
    return hexed(data) if len(data) <= 1024 else {"length": len(data), "hash": blake3(data).hex()}


def sorted_value(given):
    """Tensors and bytes in the order of the names, from the order of the vector."""
    pairs = by_name(given["tensors"])
    specs = [{key: tensor[key] for key in ("name", "dtype", "shape")} for tensor in pairs]
    data = [bytes.fromhex(tensor["data"]) * tensor.get("times", 1) for tensor in pairs]
    assert list(map(len, data)) == list(map(tensor_bytes, specs))
    return specs, data


def of_value(given):
    tensors, data = sorted_value(given)
    chunks = chunks_of(tensors, data)
    return tensors, chunks, manifest(tensors, list(map(blake3, chunks)), given.get("annotations", {}))


def of_entry(given):
    secret = bytes.fromhex(given["secret"])
    return signed(secret, body_of(given, public_key(secret)) + bytes.fromhex(given.get("encoding", "")))


def vector_identity(given):
    public = public_key(bytes.fromhex(given["secret"]))
    assert peer_public(peer_text(public)) == public
    return {
        "public_key": public.hex(),
        "peer_id_bytes": peer_bytes(public).hex(),
        "peer_id": peer_text(public),
        "bucket": bucket_of(public),
    }


def vector_numbers(given):
    assert all(Reader(varint(number)).varint() == number for number in given["numbers"])
    return {"varints": [varint(number).hex() for number in given["numbers"]]}


def vector_federation(given):
    federation = federation_id(given["name"], given["run"])
    table_key = derive_key("peerfold 2026 members of a federation v1", federation)
    return {"federation": federation.hex(), "topic": federation.hex(), "table_key": table_key.hex()}


def vector_plan(given):
    return {
        "layout": layout_id(given["tensors"]).hex(),
        "length": value_length(given["tensors"]),
        "chunks": chunk_plan(given["tensors"]),
    }


def vector_value(given):
    tensors, chunks, encoded = of_value(given)
    assert read_manifest(encoded) == (tensors, list(map(blake3, chunks)), given.get("annotations", {}))
    return {
        "layout": layout_id(tensors).hex(),
        "length": value_length(tensors),
        "chunks": [{"bytes": told(chunk), "hash": blake3(chunk).hex()} for chunk in chunks],
        "manifest": hexed(encoded),
        "root": blake3(encoded).hex(),
    }


def vector_entry(given):
    data = of_entry(given)
    if "encoding" not in given:
        public, entry = read_entry(data)
        assert entry == {key: given[key] for key in given if key != "secret"}
        assert public == public_key(bytes.fromhex(given["secret"]))
    return {"bytes": hexed(data), "hash": blake3(data).hex(), "verdict": verdict(data)}


def vector_verdicts(given):
    return {"verdicts": [verdict(unhex(of["bytes"])) for of in given["entries"]]}


def vector_set(given):
    entries = list(map(of_entry, given["entries"]))
    excluded = {read_entry(unhex(entries_[0]))[0] for entries_ in given["excluded"]}
    for one, other in given["excluded"]:
        (author, first), (other_author, second) = read_entry(unhex(one)), read_entry(unhex(other))
        assert author == other_author and first["sequence"] == second["sequence"] and one != other
        assert first["federation"] == second["federation"] and blake3(unhex(one)) < blake3(unhex(other))
    prints = fingerprints(entries, excluded)
    order = [(public, entry["name"].encode()) for public, entry in map(read_entry, entries)]
    order += [(public, b"") for public in excluded]
    order.sort(key=lambda at: (bucket_of(at[0]), at))
    texts = [peer_text(public) + (f"/{name.decode()}" if name else "") for public, name in order]
    return {
        "order": [{"bucket": bucket_of(at[0]), "text": text} for at, text in zip(order, texts)],
        "fingerprints": {str(at): data.hex() for at, data in sorted(prints.items())},
        "digest": digest(prints).hex(),
    }


def refused(read):
    try:
        read()
    except Refused:
        return True
    return False


def vector_messages(names, limit):
    def check(given):
        data = message(given["message"], given["fields"])
        assert read_message(names, limit, data) == (given["message"], given["fields"])
        length = struct.unpack("<I", data[:4])[0]
        longer = struct.pack("<I", length + 1) + data[4 : 4 + length] + b"\0" + data[4 + length :]
        assert refused(lambda: read_message(names, limit, longer)), "bytes left over in a frame are read"
        return {"bytes": told(data)}

    return check


def vector_directory(given):
    data = of_entry(given["entry"])
    _, chunks, encoded = of_value(given["value"])
    public, entry = read_entry(data)
    directory = f"{entry['federation']}/{peer_text(public)}"
    value = struct.pack("<I", len(encoded)) + encoded + b"".join(chunks)
    return {
        "entry_file": f"{directory}/{entry_file(data, entry['sequence'])}",
        "entry": hexed(data),
        "value_file": f"{directory}/{blake3(encoded).hex()}.value",
        "value": hexed(value),
    }


def vector_object(given):
    data = of_entry(given["entry"])
    _, chunks, encoded = of_value(given["value"])
    written, pack = record(data, encoded, chunks)
    signed_entry, read, packs, spots = read_record(written)
    assert (signed_entry, read, packs) == (data, encoded, [(blake3(pack)[:16], len(pack))])
    for (number, at), chunk in zip(spots, chunks, strict=True):
        assert number == 0 and pack[at : at + len(chunk)] == chunk
    own, relayed = object_names(data, public_key(bytes.fromhex(given["relaying_secret"])), given["prefix"])
    name = f"{own.rsplit('/', 2)[0]}/packs/{blake3(pack)[:16].hex()}.pack"
    return {"entry_name": own, "entry": hexed(written), "pack_name": name, "pack": told(pack), "relayed_name": relayed}


def vector_secret(given):
    secret = bytes.fromhex(given["secret"])
    file = f"{SECRET}{pasted(secret)}\n"
    assert read_pasted(file.split("\n", 1)[1].upper()) == secret
    return {"file": file, "fingerprint": derive_key("peerfold 2026 fingerprint of a secret v1", secret)[:4].hex()}


def vector_secret_federation(given):
    secret, federation = bytes.fromhex(given["secret"]), federation_id(given["name"], given["run"])
    return {
        "pre_shared_key": derive_key("peerfold 2026 private network v1", secret).hex(),
        "topic": derive_key("peerfold 2026 gossip topic of a secret federation v1", secret + federation).hex(),
        "table_key": derive_key("peerfold 2026 members of a secret federation v1", secret + federation).hex(),
    }


def vector_invitation(given):
    secret, settings = given["secret"], given["settings"].encode()
    content = (b"\1" + bytes.fromhex(secret) if secret else b"\0") + varint(len(settings)) + settings
    invitation = JOIN + pasted(content)
    assert read_pasted(invitation.removeprefix(JOIN)) == content
    return {"invitation": invitation}


def packed_names(data, holder, pack):
    """What is sealed of an entry's name, of the same relayed, and of a pack's."""
    public, entry = read_entry(data)
    number, hash_ = varint(entry["sequence"]), blake3(data)[:4]
    own = b"\4" + public + number + hash_ + shown_key(entry["name"], 20).encode()
    author, shown = peer_text(public)[-6:], shown_key(entry["name"], 12)
    relayed = b"\5" + holder + number + hash_ + author.encode() + shown.encode()
    return own, relayed, b"\6" + public + blake3(pack)[:16]


def vector_sealed_object(given):
    data = of_entry(given["entry"])
    public, entry = read_entry(data)
    _, chunks, encoded = of_value(given["value"])
    seal = Seal(bytes.fromhex(given["secret"]), bytes.fromhex(entry["federation"]))
    written, pack = record(data, encoded, [seal.chunk(public, chunk) for chunk in chunks])
    packed = packed_names(data, public_key(bytes.fromhex(given["relaying_secret"])), pack)
    own, relayed, of_pack = names = [seal.name(name) for name in packed]
    assert tuple(map(seal.open_name, names)) == packed
    sealed = seal.record(own, written)
    _, _, _, spots = read_record(seal.open_record(own, sealed))
    for (_, at), chunk in zip(spots, chunks, strict=True):
        assert seal.open_chunk(public, blake3(chunk), pack[at : at + len(chunk) + 16]) == chunk
    directory = f"{given['prefix']}/{seal.place}"
    return {
        "mark_name": f"{given['prefix']}/peerfold-sealed",
        "mark": f"What lies here is encrypted by Peerfold with a federation's secret.\n{seal.check}\n",
        "entry_packed_name": packed[0].hex(),
        "entry_name": f"{directory}/{own}",
        "entry": hexed(sealed),
        "pack_name": f"{directory}/{of_pack}",
        "pack": told(pack),
        "relayed_name": f"{directory}/{relayed}",
    }


VECTORS = {
    "identity": vector_identity,
    "numbers": vector_numbers,
    "federation": vector_federation,
    "secret": vector_secret,
    "secret federation": vector_secret_federation,
    "invitation": vector_invitation,
    "plan": vector_plan,
    "value": vector_value,
    "entry": vector_entry,
    "verdicts": vector_verdicts,
    "set": vector_set,
    "sync request": vector_messages(SYNC_REQUESTS, 6272),
    "sync answer": vector_messages(SYNC_ANSWERS, 263_680),
    "blob request": vector_messages(BLOB_REQUESTS, 2176),
    "blob answer": vector_messages(BLOB_ANSWERS, 16),
    "directory": vector_directory,
    "object": vector_object,
    "sealed object": vector_sealed_object,
}
FENCED = re.compile("^```json vector\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shown(of, indent=0):
    """JSON in lines of at most 120 characters."""
    short = json.dumps(of, ensure_ascii=False)
    if len(short) + indent + 20 <= 120 or not isinstance(of, (dict, list)):
        return short
    is_dict = isinstance(of, dict)
    if is_dict and len(of) == 1:
        [(key, item)] = of.items()
        return f"{{{json.dumps(key)}: {shown(item, indent)}}}"
    items = [f"{json.dumps(key)}: {shown(item, indent + 2)}" for key, item in of.items()] if is_dict else []
    items = items or [shown(item, indent + 2) for item in of]
    begin, end = "{}" if is_dict else "[]"
    return begin + "\n" + ",\n".join(" " * (indent + 2) + item for item in items) + "\n" + " " * indent + end


def check(page):
    seen = set()
    for block in FENCED.findall(page):
        vector = json.loads(block)
        kind = vector["vector"]
        seen.add(kind)
        computed = VECTORS[kind](vector["in"])
        if computed != vector["out"]:
            sys.exit(f"{kind} of\n{shown(vector['in'])}\nis\n{shown(computed)}\nbut the page says\n{shown(vector['out'])}")
    if missing := VECTORS.keys() - seen:
        sys.exit(f"the page has no vector for {', '.join(sorted(missing))}")
    print(f"{len(FENCED.findall(page))} vectors are as the page says")


def fill(page):
    def filled(block):
        vector = json.loads(block[1])
        vector["out"] = VECTORS[vector["vector"]](vector["in"])
        return f"```json vector\n{shown(vector)}\n```"

    PAGE.write_text(FENCED.sub(filled, page), encoding="utf-8")


# A node in a shared directory


def entries_in(author, federation):
    """File and content of each verified entry of the author whose directory this is."""
    for path in author.glob("*.entry"):
        if path.name.startswith(".") or not path.is_file():
            continue
        with open(path, "rb") as file:
            data = file.read(1025)
        if verdict(data) != "accepted":
            continue
        public, entry = read_entry(data)
        if peer_text(public) == author.name and entry["federation"] == federation.hex():
            yield path, entry


def read_value(path, entry):
    """Manifest and chunks of an entry's value, verified. Nothing longer than they are is read."""
    with open(path, "rb") as file:
        length = Reader(file.read(4)).u32()
        need(length <= 1 << 24, "a manifest that is too long")
        encoded = file.read(length)
        need(blake3(encoded).hex() == entry["put"]["root"], "its manifest")
        tensors, chunk_hashes, _ = read_manifest(encoded)
        need(layout_id(tensors).hex() == entry["layout"], "its layout")
        need(value_length(tensors) == entry["put"]["length"], "its length")
        length += 4 + value_length(tensors)
        need(os.fstat(file.fileno()).st_size == length, "its chunks")
        reader = Reader(file.read())
    sizes = [sum(end - start for _, start, end in pieces) for pieces in chunk_plan(tensors)]
    chunks = list(map(reader.take, sizes))
    need(list(map(blake3, chunks)) == chunk_hashes, "its chunks")
    return encoded, chunks


def newest_update(directory, federation, me):
    """Author, entry, manifest and chunks of the others' update of the latest epoch, all verified."""
    found = []
    for author in directory.glob("*"):
        if author.is_dir() and author.name != me:
            of = [entry for _, entry in entries_in(author, federation)]
            found += [(author, entry) for entry in of if entry["name"].startswith("update/") and "put" in entry]
    need(found, f"nobody has published an update in {directory}")
    author, entry = max(found, key=lambda found: found[1]["put"]["epoch"])
    path = author / f"{entry['put']['root']}.value"
    try:
        return author.name, entry, *read_value(path, entry)
    except Refused as refused:
        raise Refused(f"{path} isn't the value of its entry: {refused}") from None


def write(path, data):
    """Whole or not at all."""
    partial = path.with_name(f".partial-{path.name}")
    with open(partial, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def join(directory, name, run, secret):
    need(re.fullmatch("[0-9a-fA-F]{64}", secret), "SECRET must be 64 hexadecimal digits")
    secret = bytes.fromhex(secret)
    federation = bytes.fromhex(vector_federation({"name": name, "run": run})["federation"])
    directory = Path(directory) / federation.hex()
    public = public_key(secret)
    own = directory / peer_text(public)
    author, theirs, encoded, chunks = newest_update(directory, federation, own.name)
    before = sorted(entries_in(own, federation), key=lambda of: of[1]["sequence"])
    # Two entries under one number would be proof of a lie.
    sequence = 1 + max((entry["sequence"] for _, entry in before), default=0)
    ours = theirs | {"sequence": sequence, "put": theirs["put"] | {"metrics": {"loss": 0.5}}}
    data = signed(secret, body_of(ours, public))
    own.mkdir(exist_ok=True)
    value = struct.pack("<I", len(encoded)) + encoded + b"".join(chunks)
    write(own / f"{blake3(encoded).hex()}.value", value)
    write(own / entry_file(data, sequence), data)
    # Replaced are those of the same key, and all updates but two. Their values stay for those who have just read them.
    others = [path for path, entry in before if entry["name"] != ours["name"]]
    for path, _ in before:
        if path not in others[-1:]:
            path.unlink()
    said = {"peer": peer_text(public), "of": author, "name": ours["name"], "root": ours["put"]["root"]}
    print(json.dumps(said))


def main():
    match sys.argv[1:]:
        case []:
            check(PAGE.read_text(encoding="utf-8"))
        case ["--fill"]:
            fill(PAGE.read_text(encoding="utf-8"))
        case ["--join", directory, name, run, secret]:
            try:
                join(directory, name, run, secret)
            except (Refused, OSError) as error:
                sys.exit(f"error: {error}")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
