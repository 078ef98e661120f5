"""A second implementation of the reading side of shared collections, after
docs/protocol/replication.md. It takes the frozen encodings apart, verifies the exported
collection, and computes its state and its view.

Usage: python verifier.py DIRECTORY_OF_VECTORS
"""

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey

KINDS = ["last-writer", "observed-remove", "grow-only"]
ZERO = bytes(32)
DRIFT = 5000
SIGNATURE_BYTES = 3309
MASK = (1 << 64) - 1


class Refused(Exception):
    """The text says why."""


def digest(label, *parts):
    return blake3(b"".join(parts), derive_key_context="exo-federation/1 " + label).digest()


class Reader:
    """The codec: postcard, with every integer in its shortest form."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise Refused("the bytes end too early")
        self.at += count
        return self.data[self.at - count:self.at]

    def varint(self):
        value, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift:
                    raise Refused("an integer is longer than it need be")
                return value
            shift += 7
            if shift > 63:
                raise Refused("an integer is too long")

    def bytes(self):
        return self.take(self.varint())

    def text(self):
        return self.bytes().decode()

    def list(self, item):
        return [item() for _ in range(self.varint())]

    def end(self):
        if self.at != len(self.data):
            raise Refused("bytes are left over")


@dataclass
class Entry:
    key: str
    commitment: bytes | None
    value_bytes: int
    stamp: int
    observed: list
    encoding: bytes


def read_entry(r):
    start = r.at
    key, commitment, size = r.text(), None, 0
    operation = r.varint()
    if operation == 0:
        commitment, size = r.take(32), r.varint()
    elif operation != 1:
        raise Refused("no such operation")
    stamp = int.from_bytes(r.take(8), "big")
    observed = r.list(lambda: (r.take(32), r.varint()))
    if any(a >= b for a, b in zip(observed, observed[1:])):
        raise Refused("observed dots are not sorted")
    return Entry(key, commitment, size, stamp, observed, r.data[start:r.at])


def entry_id(author, collection, encoding):
    name = collection.encode()
    return digest("entry-id", author, bytes([len(name)]), name, encoding)


def inner(left, right):
    return digest("batch-node", left, right)


def split(count):
    half = 1
    while half * 2 < count:
        half *= 2
    return half


def merkle_root(ids):
    if not ids:
        return ZERO
    if len(ids) == 1:
        return ids[0]
    half = split(len(ids))
    return inner(merkle_root(ids[:half]), merkle_root(ids[half:]))


def root_by_path(leaf, index, count, path):
    turns = []
    if index >= count:
        raise Refused("no such leaf")
    while count > 1:
        half = split(count)
        turns.append(index >= half)
        index, count = (index - half, count - half) if index >= half else (index, half)
    if len(turns) != len(path):
        raise Refused("the path has another length")
    node = leaf
    for sibling, right in zip(path, reversed(turns)):
        node = inner(sibling, node) if right else inner(node, sibling)
    return node


@dataclass
class Header:
    collection: str
    author: bytes
    seq: int
    previous: bytes
    root: bytes
    entries: int
    total_entries: int
    total_bytes: int
    epoch: int
    epoch_hash: bytes
    hash: bytes


def read_header(body):
    r = Reader(body)
    header = Header(r.text(), r.take(32), r.varint(), r.take(32), r.take(32), r.varint(), r.varint(),
                    r.varint(), r.varint(), r.take(32), digest("batch-chain", body))
    r.end()
    if not 1 <= header.entries <= 256 or header.seq < 1:
        raise Refused("a header breaks a rule")
    if (header.seq == 1) != (header.previous == ZERO):
        raise Refused("the first batch, and no other, has none before it")
    return header


def peer_id(key):
    label = b"exo-federation/1 peer-id"
    return hashlib.sha256(bytes([len(label)]) + label + len(key).to_bytes(8, "big") + key).digest()


class Members:
    def __init__(self, keys):
        self.keys = {peer_id(key): MLDSA65PublicKey.from_public_bytes(key) for key in keys}

    def verified(self, r, collection):
        """Reads a signed header and verifies it."""
        body, signature = r.bytes(), r.take(SIGNATURE_BYTES)
        header = read_header(body)
        if header.collection != collection:
            raise Refused("another collection")
        key = self.keys.get(header.author)
        if key is None:
            raise Refused("the author is not a member")
        label = b"exo-federation/1 batch-header"
        try:
            key.verify(signature, bytes([len(label)]) + label + body)
        except InvalidSignature:
            raise Refused("the signature does not hold") from None
        return header


@dataclass
class Checkpoint:
    kind: str
    epoch: int
    time: int
    recent: list
    frontier: dict
    live_root: bytes
    live_count: int
    hash: bytes


def read_checkpoint(data, collection):
    r = Reader(data)
    if r.text() != collection:
        raise Refused("a checkpoint of another collection")
    kind, epoch, time = KINDS[r.varint()], r.varint(), r.varint()
    recent = r.list(lambda: (r.take(32), r.varint()))
    frontier = r.list(lambda: (r.take(32), (r.varint(), r.take(32), r.varint(), r.varint())))
    checkpoint = Checkpoint(kind, epoch, time, recent, dict(frontier), r.take(32), r.varint(),
                            digest("collection-cut", data) if epoch else ZERO)
    r.end()
    return checkpoint


def read_live(data):
    r = Reader(data)
    live = r.list(lambda: (r.take(32), int.from_bytes(r.take(8), "big")))
    r.end()
    if any(a[0] >= b[0] for a, b in zip(live, live[1:])):
        raise Refused("the live set is not sorted")
    return dict(live), digest("live-set", *[i + e.to_bytes(8, "big") for i, e in live])


class Collection:
    """What an export holds, verified."""

    def __init__(self, export):
        self.name = export["collection"]
        self.members = Members([bytes.fromhex(key) for key in export["members"]])
        self.cut = read_checkpoint(bytes.fromhex(export["checkpoint"]), self.name)
        self.live, root = read_live(bytes.fromhex(export["live"]))
        if self.cut.epoch and (root, len(self.live)) != (self.cut.live_root, self.cut.live_count):
            raise Refused("the live set is not the checkpoint's")
        self.above, self.under, self.evidence = {}, {}, {}
        for item in export["batches"]:
            self.take_batch(bytes.fromhex(item))
        for item in export["shown"]:
            self.take_shown(bytes.fromhex(item))
        for item in export["evidence"]:
            self.take_evidence(bytes.fromhex(item))

    def covers(self, header):
        return header.seq <= self.cut.frontier.get(header.author, (0,))[0]

    def take_batch(self, data):
        r = Reader(data)
        header = self.members.verified(r, self.name)
        entries = r.list(lambda: read_entry(r))
        r.end()
        ids = [entry_id(header.author, self.name, e.encoding) for e in entries]
        if len(ids) != header.entries or merkle_root(ids) != header.root:
            raise Refused("the entries are not those that were signed")
        if self.covers(header):
            raise Refused("a batch under the cut is exported by its entries")
        size = sum(len(e.encoding) + e.value_bytes for e in entries)
        self.above.setdefault((header.author, header.seq), {})[header.hash] = (
            header, list(zip(ids, entries)), size)

    def take_shown(self, data):
        r = Reader(data)
        header = self.members.verified(r, self.name)
        entry, index = read_entry(r), r.take(1)[0]
        path = r.list(lambda: r.take(32))
        r.end()
        leaf = entry_id(header.author, self.name, entry.encoding)
        if root_by_path(leaf, index, header.entries, path) != header.root:
            raise Refused("the proof does not lead to the root")
        if not self.covers(header) or leaf not in self.live:
            raise Refused("an entry that does not live under the cut")
        self.under[leaf] = (header, index, entry)

    def take_evidence(self, data):
        r = Reader(data)
        one, two = (self.members.verified(r, self.name) for _ in range(2))
        r.end()
        if (one.author, one.seq) != (two.author, two.seq) or one.hash >= two.hash:
            raise Refused("the headers do not contradict each other")
        self.evidence[(one.author, one.seq)] = digest("evidence-id", one.hash, two.hash)

    def state(self):
        state = [self.cut.hash, sum(map(len, self.above.values())).to_bytes(8, "big")]
        for (author, seq), forks in sorted(self.above.items()):
            state += [author + seq.to_bytes(8, "big") + h for h in sorted(forks)]
        state.append(len(self.under).to_bytes(8, "big"))
        state += sorted(self.under)
        state.append(len(self.evidence).to_bytes(8, "big"))
        state += [proof for _, proof in sorted(self.evidence.items())]
        return b"".join(state)

    def epoch_time(self, header):
        if header.epoch > self.cut.epoch:
            return None
        back = self.cut.epoch - header.epoch
        known = [(self.cut.hash, self.cut.time)] + self.cut.recent
        if back < len(known) and known[back][0] == header.epoch_hash:
            return known[back][1]
        return None

    def chain(self, author):
        seq, last, entries, size = self.cut.frontier.get(author, (0, ZERO, 0, 0))
        while True:
            for _, (header, content, bytes_) in sorted(self.above.get((author, seq + 1), {}).items()):
                totals = (entries + header.entries, size + bytes_)
                if header.previous == last and totals == (header.total_entries, header.total_bytes):
                    yield header, content
                    seq, last, (entries, size) = seq + 1, header.hash, totals
                    break
            else:
                return

    def view(self, now):
        candidates, deferred, frozen = [], 0, 0
        for leaf, (header, index, entry) in self.under.items():
            candidates.append((self.live[leaf], header, index, leaf, entry))
        accused = {author for author, _ in self.evidence}
        for author in {author for author, _ in self.above}:
            for header, content in self.chain(author):
                time = self.epoch_time(header)
                if time is None:
                    continue
                for index, (leaf, entry) in enumerate(content):
                    effective = max(entry.stamp, (time + 1) << 16) if time else entry.stamp
                    if author in accused:
                        frozen += 1
                    elif effective >> 16 > now + DRIFT:
                        deferred += 1
                    else:
                        candidates.append((effective, header, index, leaf, entry))
        keys = {}
        for candidate in candidates:
            keys.setdefault(candidate[4].key, []).append(candidate)
        seen = []
        for key, group in sorted(keys.items()):
            best = self.best(group)
            if best:
                seen.append([key, best[3].hex(), best[1].author.hex(), best[0]])
        return {"keys": seen, "deferred": deferred, "frozen": frozen}

    def best(self, group):
        order = lambda c: (c[0], c[1].author, c[1].seq, c[3])
        puts = [c for c in group if c[4].commitment is not None]
        if self.cut.kind == "grow-only":
            return min(puts, key=order, default=None)
        if self.cut.kind == "observed-remove":
            dot = lambda c: (c[1].author, c[1].seq << 8 | c[2])
            removed = {d for c in group for d in c[4].observed if d != dot(c)}
            return max((c for c in puts if dot(c) not in removed), key=order, default=None)
        last = max(group, key=order)
        return last if last[4].commitment is not None else None


def check_values(export):
    entries = {}
    collection = Collection(export)
    for leaf, (_, _, entry) in collection.under.items():
        entries[leaf] = entry
    for forks in collection.above.values():
        for _, content, _ in forks.values():
            entries.update(content)
    for leaf, value in export["values"]:
        r = Reader(bytes.fromhex(value))
        salt, content = r.take(32), r.bytes()
        r.end()
        entry = entries[bytes.fromhex(leaf)]
        assert digest("value-commitment", salt, content) == entry.commitment
        assert len(content) == entry.value_bytes
    return len(export["values"])


def refusals(export):
    """Every changed bit of what is signed is refused."""
    count = 0
    for what in ("batches", "shown", "evidence"):
        for at, item in enumerate(export[what]):
            data = bytes.fromhex(item)
            for bit in range(0, len(data) * 8, 997):
                changed = bytearray(data)
                changed[bit // 8] ^= 1 << bit % 8
                altered = dict(export)
                altered[what] = list(export[what])
                altered[what][at] = bytes(changed).hex()
                try:
                    Collection({**export, "batches": [], "shown": [], "evidence": [],
                                what: [altered[what][at]]})
                except (Refused, UnicodeDecodeError):
                    count += 1
                    continue
                raise AssertionError(f"bit {bit} of {what} {at} was changed and not noticed")
    return count


def mix(x):
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def siphash13(key, data):
    """SipHash-1-3 (Aumasson & Bernstein 2012)."""
    k0, k1 = (int.from_bytes(key[i:i + 8], "little") for i in (0, 8))
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]
    rotl = lambda x, n: (x << n | x >> 64 - n) & MASK

    def rounds(count):
        for _ in range(count):
            v[0] = v[0] + v[1] & MASK; v[1] = rotl(v[1], 13) ^ v[0]; v[0] = rotl(v[0], 32)
            v[2] = v[2] + v[3] & MASK; v[3] = rotl(v[3], 16) ^ v[2]
            v[0] = v[0] + v[3] & MASK; v[3] = rotl(v[3], 21) ^ v[0]
            v[2] = v[2] + v[1] & MASK; v[1] = rotl(v[1], 17) ^ v[2]; v[2] = rotl(v[2], 32)

    data += bytes(7 - len(data) % 8) + bytes([len(data) % 256])
    for at in range(0, len(data), 8):
        word = int.from_bytes(data[at:at + 8], "little")
        v[3] ^= word; rounds(1); v[0] ^= word
    v[2] ^= 0xFF
    rounds(3)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def check_sync(sync):
    secret, (asker, answerer) = bytes.fromhex(sync["link_secret"]), map(bytes.fromhex, sync["nonces"])
    part = lambda n: digest("sync-key", secret, asker, answerer, bytes([n]))
    shorts = [siphash13(part(0)[:16], bytes.fromhex(i)) for i in sync["ids"]]
    assert [s.to_bytes(8, "big").hex() for s in shorts] == sync["shorts"]
    joined = b"".join(s.to_bytes(8, "big") for s in sorted(shorts))
    assert blake3(joined, key=part(1)).digest()[:16].hex() == sync["fingerprint"]
    counters = [0] * 128
    for short in shorts:
        counters[short % 128] += -1 if short & 128 else 1
    assert b"".join((c & 0xFFFF).to_bytes(2, "big") for c in counters).hex() == sync["sketch"]
    for number, expected in enumerate(sync["layers"]):
        cells, checks = [0] * 7, [0] * 7
        for short in shorts:
            place = (mix(short + 0x9E3779B97F4A7C15 * (number + 1) & MASK) >> 32) * 7 >> 32
            cells[place] ^= short
            checks[place] ^= mix(short ^ 0x6A09E667F3BCC908) & 0xFFFF
        layer = b"".join(c.to_bytes(8, "big") for c in cells)
        assert (layer + b"".join(c.to_bytes(2, "big") for c in checks)).hex() == expected


def check_encodings(vectors):
    author, collection = bytes.fromhex(vectors["author"]), vectors["collection"]
    ids = []
    for encoding, expected in zip(vectors["entries"], vectors["entry_ids"]):
        r = Reader(bytes.fromhex(encoding))
        entry = read_entry(r)
        r.end()
        ids.append(entry_id(author, collection, entry.encoding))
        assert ids[-1].hex() == expected
    assert merkle_root(ids).hex() == vectors["merkle_root"]
    for index, path in enumerate(vectors["merkle_paths"]):
        path = bytes.fromhex(path)
        nodes = [path[at:at + 32] for at in range(0, len(path), 32)]
        assert root_by_path(ids[index], index, len(ids), nodes) == merkle_root(ids)
    header = read_header(bytes.fromhex(vectors["header"]))
    assert header.hash.hex() == vectors["header_hash"] and header.root == merkle_root(ids)
    r = Reader(bytes.fromhex(vectors["value"]))
    assert digest("value-commitment", r.take(32), r.bytes()).hex() == vectors["commitment"]
    cut = read_checkpoint(bytes.fromhex(vectors["checkpoint"]), collection)
    live, root = read_live(bytes.fromhex(vectors["live_set"]))
    assert cut.hash.hex() == vectors["checkpoint_hash"]
    assert (cut.live_root, cut.live_count) == (root, len(live))
    check_sync(vectors["sync"])


def main():
    directory = Path(sys.argv[1])
    check_encodings(json.loads((directory / "encodings.json").read_text()))
    export = json.loads((directory / "collection.json").read_text())
    collection = Collection(export)
    state = collection.state()
    assert state.hex() == export["state"]
    assert digest("frontier-root", state).hex() == export["root"]
    assert collection.view(export["now"]) == export["view"]
    values, refused = check_values(export), refusals(export)
    print(f"{len(collection.view(export['now'])['keys'])} keys, {values} values, "
          f"{len(collection.evidence)} proofs: as expected; {refused} changes refused")


main()
