"""A second implementation of the reading side of the onion packet, written from
docs/protocol/onion.md alone. It takes the frozen vectors apart and says what it found.

Usage: python decoder.py DIRECTORY_OF_VECTORS
"""

import hashlib
import hmac
import json
import sys
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

CONTEXT = "exo-federation/1 onion-keys"
PACKET_BYTES = {0: 8192, 1: 16384}
SLOTS_AT, HEADER_BYTES, SLOT_BYTES, SLOTS_BYTES = 1144, 5944, 1184, 4800
CHUNKS = {0: (1, 4096), 1: (1, 16384), 2: (4, 16384)}
STEP_MILLIS, WINDOW_MILLIS, DELAY_MAX = 10_000, 150_000, 10_000
FORWARD, DELIVER, COVER = 1, 2, 3


class Drop(Exception):
    """A packet is dropped; the cause is the text."""


class BadReply(Exception):
    """A reply is of no use."""


class XWingKey:
    """A decapsulation key of draft-connolly-cfrg-xwing-kem."""

    def __init__(self, seed):
        expanded = hashlib.shake_256(seed).digest(96)
        self.ml_kem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        self.x25519 = X25519PrivateKey.from_private_bytes(expanded[64:])
        self.share = self.x25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def decapsulate(self, ciphertext):
        ct_m, ct_x = ciphertext[:1088], ciphertext[1088:]
        ss_m = self.ml_kem.decapsulate(ct_m)
        try:
            ss_x = self.x25519.exchange(X25519PublicKey.from_public_bytes(ct_x))
        except ValueError:
            raise Drop("encapsulation") from None
        return hashlib.sha3_256(ss_m + ss_x + ct_x + self.share + rb"\.//^" + b"\\").digest()


@dataclass
class Member:
    id: bytes
    epoch: int
    key: XWingKey


@dataclass
class Keys:
    mac: bytes
    hdr: bytes
    pay: bytes
    rep: bytes
    end: bytes
    replay: bytes

    @classmethod
    def split(cls, k):
        return cls(*(k[at:at + 32] for at in range(0, 160, 32)), k[160:])


@dataclass
class Block:
    kind: int
    reply: int
    delay: int
    expiry_millis: int
    next: bytes
    tag: bytes
    epoch: int


def number(data):
    return int.from_bytes(data, "big")


def nonce(n):
    return bytes(8) + n.to_bytes(4, "big")


def stream(key, n, data):
    """Applies ChaCha20(key, n). The library's nonce begins with the block counter, little-endian."""
    counter = (1).to_bytes(4, "little")
    return Cipher(ChaCha20(key, counter + nonce(n)), mode=None).encryptor().update(data)


def derive(secret, member, prefix):
    material = secret + member + prefix
    return blake3(material, derive_key_context=CONTEXT).digest(length=176)


def read_block(raw, now):
    block = Block(raw[0], raw[1], number(raw[2:4]), number(raw[4:8]) * STEP_MILLIS,
                  raw[8:40], raw[40:56], number(raw[56:60]))
    unused = raw[8:60] == bytes(52)
    if block.kind not in (FORWARD, DELIVER, COVER) or raw[60:] != bytes(4):
        raise Drop("routing")
    if block.kind != FORWARD and not unused or block.reply not in CHUNKS:
        raise Drop("routing")
    if block.delay > DELAY_MAX:
        raise Drop("delay")
    if block.expiry_millis <= now:
        raise Drop("expired")
    if block.expiry_millis > now + WINDOW_MILLIS:
        raise Drop("too-long")
    return block


def read_content(payload):
    length, rest = number(payload[:4]), payload[4:]
    if length > len(rest) or any(rest[length:]):
        raise Drop("content")
    return rest[:length]


def peel(packet, me, came_from, known, seen, now):
    """Takes one layer off: the block, what goes on or the content, the secret and the keys."""
    if len(packet) < 8:
        raise Drop("length")
    if packet[0] != 1:
        raise Drop("version")
    if packet[1] not in PACKET_BYTES:
        raise Drop("class")
    if len(packet) != PACKET_BYTES[packet[1]]:
        raise Drop("length")
    if packet[2:4] != bytes(2):
        raise Drop("reserved")
    prefix, tag = packet[:8], packet[8:24]
    if number(prefix[4:]) != me.epoch:
        raise Drop("epoch")
    secret = me.key.decapsulate(packet[24:SLOTS_AT])
    raw_keys = derive(secret, me.id, prefix)
    keys = Keys.split(raw_keys)

    expected = blake3(prefix + bytes(16) + packet[24:], key=keys.mac).digest()[:16]
    if not hmac.compare_digest(expected, tag):
        raise Drop("tag")

    if keys.replay in seen:
        raise Drop("replayed")
    seen.add(keys.replay)

    slots = stream(keys.hdr, 0, packet[SLOTS_AT:HEADER_BYTES] + bytes(SLOT_BYTES))
    block = read_block(slots[:64], now)
    if block.kind == FORWARD:
        if block.next == me.id:
            raise Drop("to-self")
        if block.next == came_from:
            raise Drop("bounce")
        if block.next not in known:
            raise Drop("unknown")

    payload = stream(keys.pay, 0, packet[HEADER_BYTES:])
    if block.kind == FORWARD:
        next_prefix = bytes([1, packet[1], 0, 0]) + block.epoch.to_bytes(4, "big")
        rest = next_prefix + block.tag + slots[64:SLOT_BYTES] + slots[SLOT_BYTES:] + payload
    else:
        rest = read_content(payload) if block.kind == DELIVER else b""
    return block, slots[:64], rest, secret, raw_keys


def read_text(text, is_last):
    kind, cause, reserved, length = text[0], text[1], text[2:4], number(text[4:8])
    answer, padding = text[8:8 + length], text[8 + length:]
    if reserved != bytes(2) or length > len(text) - 8 or any(padding):
        raise BadReply("malformed text")
    if kind == 1 and cause == 0 and is_last:
        return {"answer": answer}
    if kind == 2 and length == 0:
        return {"failure": cause}
    raise BadReply("not this hop's to say")


def open_reply(chunks, hops, reply_class):
    """Opens a reply with the keys of the hops, the nearest first: who spoke, and what."""
    count, size = CHUNKS[reply_class]
    if len(chunks) != count or any(len(chunk) != size for chunk in chunks):
        raise BadReply("length")
    speaker, text = len(hops) - 1, b""
    for j, chunk in enumerate(chunks):
        aad = bytes([reply_class, j, count, int(j + 1 == count)])
        for depth, keys in enumerate(hops[:speaker + 1]):
            try:
                plain = ChaCha20Poly1305(keys.end).decrypt(nonce(j), chunk, aad)
            except InvalidTag:
                chunk = stream(keys.rep, j, chunk)
                continue
            text = (text if depth == speaker else b"") + plain
            speaker = depth
            break
        else:
            raise BadReply(f"chunk {j} opens at no depth")
    return speaker, read_text(text, speaker == len(hops) - 1)


def check(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")


class Vectors:
    def __init__(self, directory):
        def load(name):
            return json.loads((directory / name).read_text())

        frame = load("members.json")
        self.now = frame["now_millis"]
        self.asker = bytes.fromhex(frame["asker"])
        self.members = [
            Member(bytes.fromhex(m["id"]), m["epoch"], XWingKey(bytes.fromhex(m["x_wing_seed"])))
            for m in frame["members"]
        ]
        self.known = {member.id for member in self.members}
        self.packets, self.replies, self.drops = map(
            load, ("packets.json", "replies.json", "drops.json"))

    def hop(self, at, packet, seen, now=None):
        came_from = self.members[at - 1].id if at else self.asker
        return peel(packet, self.members[at], came_from, self.known, seen, now or self.now)

    def check_packet(self, index):
        """Takes all layers off; gives the keys of the hops."""
        vector = self.packets[index]
        packet, hops, keys = b64decode(vector["packet"]), vector["hops"], []
        check(len(packet) == PACKET_BYTES[vector["class"]], f"packet {index}: length")
        for at, expected in enumerate(vector["layers"]):
            where = f"packet {index}, hop {at}"
            check(hashlib.sha256(packet).hexdigest() == expected["packet_sha256"], f"{where}: bytes")
            seen = set()
            block, raw_block, rest, secret, raw_keys = self.hop(at, packet, seen)
            check(secret.hex() == expected["secret"], f"{where}: secret")
            check(raw_keys.hex() == expected["keys"], f"{where}: keys")
            frozen = bytes.fromhex(expected["block_without_tag"])
            check(raw_block[:40] + bytes(16) + raw_block[56:] == frozen, f"{where}: routing block")
            check(block.reply == vector["reply_class"], f"{where}: reply class")
            try:
                self.hop(at, packet, seen)
                check(False, f"{where}: a replay was taken")
            except Drop as drop:
                check(str(drop) == "replayed", f"{where}: a replay was dropped as {drop}")
            self.check_changes(at, packet, where)
            keys.append(Keys.split(raw_keys))
            if at + 1 < hops:
                check(block.kind == FORWARD and block.next == self.members[at + 1].id, where)
                check(len(rest) == len(packet), f"{where}: length of what goes on")
                packet = rest
            else:
                check(block.kind == DELIVER, f"{where}: kind")
                check(rest.hex() == vector["content"], f"{where}: content")
        return keys

    def check_changes(self, at, packet, where):
        """A changed bit here and there is noticed."""
        for place in (8, 24, 1143, 1144, 3000, 5943, 5944, len(packet) - 1):
            changed = bytearray(packet)
            changed[place] ^= 1 << place % 8
            try:
                self.hop(at, bytes(changed), set())
                check(False, f"{where}: a change at {place} was not noticed")
            except Drop as drop:
                check(str(drop) == "tag", f"{where}: a change at {place} was dropped as {drop}")

    def check_reply(self, vector, hops):
        index, chunks = vector["packet"], [b64decode(chunk) for chunk in vector["chunks"]]
        reply_class = self.packets[index]["reply_class"]
        speaker, outcome = open_reply(chunks, hops, reply_class)
        check(speaker == vector["speaker"], f"reply to packet {index}: speaker {speaker}")
        expected = vector["outcome"]
        if "answer" in expected:
            expected = {"answer": bytes.fromhex(expected["answer"])}
        check(outcome == expected, f"reply to packet {index}: {outcome}")
        for place in (0, len(chunks[-1]) - 1):
            changed = bytearray(chunks[-1])
            changed[place] ^= 0x10
            try:
                open_reply(chunks[:-1] + [bytes(changed)], hops, reply_class)
                check(False, f"reply to packet {index}: a change was not noticed")
            except BadReply:
                pass

    def check_drop(self, index, vector):
        try:
            self.hop(0, b64decode(vector["packet"]), set(), vector["now_millis"])
        except Drop as drop:
            check(str(drop) == vector["cause"], f"drop {index}: {drop}, not {vector['cause']}")
        else:
            check(False, f"drop {index}: taken")


def main():
    vectors = Vectors(Path(sys.argv[1]))
    keys = [vectors.check_packet(index) for index in range(len(vectors.packets))]
    layers = sum(map(len, keys))
    for vector in vectors.replies:
        vectors.check_reply(vector, keys[vector["packet"]])
    for index, vector in enumerate(vectors.drops):
        vectors.check_drop(index, vector)
    done = layers + len(vectors.replies) + len(vectors.drops)
    print(f"{len(vectors.packets)} packets of {layers} layers, {len(vectors.replies)} replies and "
          f"{len(vectors.drops)} packets to drop are as the document says")
    print(f"{done} passed, 0 failed")


if __name__ == "__main__":
    main()
