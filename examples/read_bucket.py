#!/usr/bin/env python3
"""Reads a federation's newest updates out of its bucket, with boto3 and nothing of Peerfold's.

    read_bucket.py s3://BUCKET/PREFIX OUT [--endpoint-url URL]

lists who has published what, and writes each author's newest update as OUT/<author>-<epoch>.safetensors. Signatures are
checked if `cryptography` is installed, hashes if `blake3` is. The format of the objects is in the documentation of
src/bucket/names.rs and record.rs, that of entries and manifests in src/weights.
"""

import argparse
import json
import pathlib
import struct
import sys
import urllib.parse

import boto3

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    Ed25519PublicKey = None
try:
    from blake3 import blake3
except ImportError:
    blake3 = None

DOMAIN = b"peerfold/entry\0"
CHUNK, SMALL = 1 << 20, 1 << 16
# In the order of their numbers: the name in safetensors, and bytes of an element.
DTYPES = [("F64", 8), ("F32", 4), ("F16", 2), ("BF16", 2), ("I64", 8), ("I32", 4), ("U8", 1), ("BOOL", 1), ("I8", 1),
          ("I16", 2), ("U16", 2), ("U32", 4), ("U64", 8)]


class Reader:
    """Postcard: integers in seven-bit groups, lowest first; strings and lists after their length."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def raw(self, length):
        part = self.data[self.at:self.at + length]
        if len(part) < length:
            raise ValueError("it ends early")
        self.at += length
        return part

    def integer(self):
        value, shift = 0, 0
        while True:
            (byte,) = self.raw(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def little(self, size):
        return int.from_bytes(self.raw(size), "little")

    def text(self):
        return self.raw(self.integer()).decode()


def peer_id(public_key):
    """The name of an author: its key as a libp2p peer id, in base58."""
    digits = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    number, text = int.from_bytes(b"\x24\x08\x01\x12\x20" + public_key, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = digits[digit] + text
    return "1" + text


def read_entry(data):
    """A signed entry: what it says."""
    body, signature = data[:-64], data[-64:]
    reader = Reader(body)
    version = reader.raw(1)[0]
    if version != 1:
        raise ValueError(f"an entry of version {version}")
    federation, layout, author = reader.raw(32), reader.raw(32), reader.raw(32)
    if Ed25519PublicKey is not None:
        try:
            Ed25519PublicKey.from_public_bytes(author).verify(signature, DOMAIN + body)
        except InvalidSignature:
            raise ValueError("it is not signed by its author") from None
    entry = {"federation": federation.hex(), "author": peer_id(author), "layout": layout, "name": reader.text(), "sequence": reader.integer()}
    if reader.integer() == 0:
        entry |= {"root": reader.raw(32), "length": reader.integer(), "epoch": reader.integer()}
        entry["num_examples"] = reader.integer()
        metrics = [(reader.text(), struct.unpack("<d", reader.raw(8))[0]) for _ in range(reader.integer())]
        entry["metrics"] = dict(metrics)
    return entry


def read_manifest(data, root):
    """A value's tensors, the hashes of its chunks, and what is said of it in words."""
    if blake3 is not None and blake3(data).digest() != root:
        raise ValueError("its manifest is another one")
    reader = Reader(data)
    version = reader.raw(1)[0]
    tensors = []
    for _ in range(reader.integer()):
        name, dtype = reader.text(), DTYPES[reader.integer()]
        tensors.append((name, dtype, [reader.integer() for _ in range(reader.integer())]))
    hashes = [reader.raw(32) for _ in range(reader.integer())]
    # A manifest of version 2 ends with the metadata of the file that its value comes from.
    return tensors, hashes, {reader.text(): reader.text() for _ in range(reader.integer())} if version == 2 else {}


def size_of(tensor):
    _, (_, size), shape = tensor
    for dimension in shape:
        size *= dimension
    return size


def cut(tensors):
    """Which bytes of which tensor are in which chunk: small ones share chunks and come first."""
    chunks, filled = [], CHUNK
    sizes = [(number, size_of(tensor)) for number, tensor in enumerate(tensors)]
    for number, size in sizes:
        if 0 < size < SMALL:
            if filled + size > CHUNK:
                chunks.append([])
                filled = 0
            chunks[-1].append((number, size))
            filled += size
    for number, size in sizes:
        if size >= SMALL:
            chunks += [[(number, min(CHUNK, size - start))] for start in range(0, size, CHUNK)]
    return chunks


def read(store, bucket, key):
    return store.get_object(Bucket=bucket, Key=key)["Body"].read()


def read_value(read_pack, record, entry):
    """The tensors of an entry's value (names, dtypes, shapes), their bytes, and its metadata."""
    reader = Reader(record)
    tensors, hashes, metadata = read_manifest(reader.raw(reader.little(4)), entry["root"])
    packs = [(reader.raw(16).hex(), reader.little(4)) for _ in range(reader.little(4))]
    data, fetched = [b""] * len(tensors), {}
    for pieces, expected in zip(cut(tensors), hashes, strict=True):
        pack, offset = packs[reader.little(4)][0], reader.little(4)
        if pack not in fetched:
            fetched[pack] = read_pack(pack)
        chunk = fetched[pack][offset:offset + sum(length for _, length in pieces)]
        if blake3 is not None and blake3(chunk).digest() != expected:
            raise ValueError(f"a chunk in {pack}.pack is not what its author signed")
        for number, length in pieces:
            data[number] += chunk[:length]
            chunk = chunk[length:]
    return tensors, data, metadata


def write_safetensors(path, tensors, data, metadata):
    header, at = {"__metadata__": metadata} if metadata else {}, 0
    for (name, (dtype, _), shape), part in zip(tensors, data, strict=True):
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(part)]}
        at += len(part)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("url")
    arguments.add_argument("out", type=pathlib.Path)
    arguments.add_argument("--endpoint-url")
    arguments = arguments.parse_args()
    url = urllib.parse.urlsplit(arguments.url)
    store = boto3.client("s3", endpoint_url=arguments.endpoint_url)
    pages = store.get_paginator("list_objects_v2")
    prefix = url.path.strip("/")
    newest = {}
    listed = pages.paginate(Bucket=url.netloc, Prefix=f"{prefix}/" if prefix else "")
    for key in (found["Key"] for page in listed for found in page.get("Contents", ())):
        # In a member's directory are its own entries, and those that it has left there for others.
        directory, kind = ("", "", *key.rsplit("/", 2))[-3:-1]
        if kind not in ("entries", "relayed"):
            continue
        record = read(store, url.netloc, key)
        (length,) = struct.unpack_from("<H", record)
        try:
            entry = read_entry(record[2:2 + length])
        except ValueError as error:
            print(f"{key}: {error}", file=sys.stderr)
            continue
        whose = entry["federation"][:16], entry["author"]
        print(*whose, entry["sequence"], entry["name"], entry.get("metrics", ""))
        if entry["name"].startswith("update/") and "root" in entry:
            old = newest.get(whose)
            if old is None or old[0]["sequence"] < entry["sequence"]:
                newest[whose] = entry, directory, record[2 + length:]
    arguments.out.mkdir(parents=True, exist_ok=True)
    for (_, author), (entry, directory, record) in newest.items():
        packs = f"{directory}/packs"
        tensors, data, metadata = read_value(lambda pack: read(store, url.netloc, f"{packs}/{pack}.pack"), record, entry)
        write_safetensors(arguments.out / f"{author}-{entry['epoch']}.safetensors", tensors, data, metadata)


if __name__ == "__main__":
    main()
