"""A second implementation of the checking of commit proofs, written from the documents of C2SP and
docs/protocol/proof.md alone. It checks the frozen vectors and says what it found.

Usage: python verifier.py DIRECTORY_OF_VECTORS
       python verifier.py PROOF POLICY [ENTRY]
"""

import base64
import hashlib
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

SIZE_MAX, PATH_MAX, SIGNATURES_MAX, ENTRY_MAX = 1 << 62, 63, 272, 65_535
TRIED_MAX = 1024
COSIGNATURE = 0x06


class Refused(Exception):
    """The proof does not hold; the first argument is the reason, the second says more."""


def refuse(reason, text=""):
    raise Refused(reason, text)


def decimal(text):
    """A number without leading zeros, or None."""
    return int(text) if re.fullmatch("0|[1-9][0-9]{0,19}", text, re.ASCII) else None


def unbase64(text):
    """The bytes, or None where they would not be written so."""
    try:
        raw = base64.b64decode(text.encode(), validate=True)
    except ValueError:
        return None
    return raw if base64.b64encode(raw).decode() == text else None


def key_id(name, material):
    return hashlib.sha256(name.encode() + b"\n" + material).digest()[:4]


def is_key_name(name):
    spaced = any(c.isspace() or c == "+" or c < " " for c in name)
    return 1 <= len(name.encode()) <= 255 and not spaced


# RFC 6962 section 2.1, RFC 9162 section 2.1.3.2


def leaf_hash(entry):
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def path_length(index, size):
    """Hashes of PATH(index, D[size]), by its definition."""
    length = 0
    while size > 1:
        middle = 1 << (size - 1).bit_length() - 1
        index, size = (index, middle) if index < middle else (index - middle, size - middle)
        length += 1
    return length


def root_from_path(leaf, index, size, path):
    fn, sn, r = index, size - 1, leaf
    for p in path:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while fn & 1 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    return r if sn == 0 else None


# c2sp.org/tlog-policy


@dataclass
class Policy:
    witnesses: dict = field(default_factory=dict)  # (key name, key id) to (policy name, public key)
    parts: dict = field(default_factory=dict)  # policy name to None for a witness, else (k, members)
    quorum: str = ""

    @classmethod
    def parse(cls, raw):
        policy, grouped, keys = cls(), set(), set()
        text = raw.decode("latin-1")
        assert text.endswith("\n"), "the last line has no end"
        for line in text[:-1].split("\n"):
            assert not re.search("[\0-\x08\x0b-\x1f\x7f]", line), "a control character"
            words = [word for word in re.split("[ \t]+", line) if word]
            if not words or words[0].startswith("#"):
                continue
            kind, name = words[0], words[1]
            if kind == "witness":
                assert len(words) in (3, 4) and name != "none" and name not in policy.parts
                key_name, number, material = words[2].encode("latin-1").decode().split("+", 2)
                material = unbase64(material)
                assert is_key_name(key_name) and material[0] == COSIGNATURE
                assert len(material) == 1 + 1312 and material not in keys
                assert key_id(key_name, material).hex() == number
                keys.add(material)
                public = MLDSA44PublicKey.from_public_bytes(material[1:])
                policy.witnesses[key_name, bytes.fromhex(number)] = name, public
                policy.parts[name] = None
            elif kind == "group":
                members = words[3:]
                assert members and name != "none" and name not in policy.parts
                k = {"any": 1, "all": len(members)}.get(words[2]) or decimal(words[2])
                assert k and 1 <= k <= len(members)
                for member in members:
                    assert member in policy.parts and member not in grouped
                    grouped.add(member)
                policy.parts[name] = k, members
            else:
                assert kind == "quorum" and len(words) == 2 and not policy.quorum
                assert name in policy.parts
                policy.quorum = name
        assert policy.quorum, "no quorum"
        return policy

    def origin(self):
        origins = set()
        for name, _ in self.witnesses:
            origin, _, member = name.rpartition("/")
            origins.add(origin if re.fullmatch("[a-z2-7]{51}[aq]", member) else "")
        return origins.pop() if len(origins) == 1 else ""

    def is_met_by(self, signed, name=None):
        name = name or self.quorum
        if self.parts[name] is None:
            return name in signed
        k, members = self.parts[name]
        return sum(self.is_met_by(signed, member) for member in members) >= k


# c2sp.org/tlog-proof, signed-note and tlog-checkpoint


@dataclass
class Proof:
    extra: bytes | None
    index: int
    path: list
    origin: str
    size: int
    root: bytes
    signatures: list  # of (key name, key id, signature)


def parse_signature(line):
    words = line.split(" ")
    if len(words) != 3 or words[0] != "\u2014" or not is_key_name(words[1]):
        refuse("file-note", line[:60])
    raw = unbase64(words[2])
    if raw is None or len(raw) < 5:
        refuse("file-note", line[:60])
    return words[1], raw[:4], raw[4:]


def parse_note(text):
    body, separator, lines = text.rpartition("\n\n")
    if not separator or not lines.endswith("\n") or re.search("[\0-\x09\x0b-\x1f]", text):
        refuse("file-note")
    lines = lines[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        refuse("file-note")
    return body + "\n", [parse_signature(line) for line in lines]


def parse_checkpoint(text):
    lines = text[:-1].split("\n")
    if len(lines) != 3 or not 1 <= len(lines[0].encode()) <= 255:
        refuse("file-checkpoint")
    origin, size, root = lines[0], decimal(lines[1]), unbase64(lines[2])
    if size is None or size > SIZE_MAX or root is None or len(root) != 32:
        refuse("file-checkpoint")
    if size == 0 and root != hashlib.sha256(b"").digest():
        refuse("file-checkpoint")
    return origin, size, root


def parse_proof(raw):
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        refuse("file")
    first, _, rest = text.partition("\n")
    if first != "c2sp.org/tlog-proof@v1":
        refuse("file")
    extra = None
    if rest.startswith("extra "):
        line, _, rest = rest.partition("\n")
        extra = unbase64(line.removeprefix("extra "))
        if not extra or len(extra) > ENTRY_MAX:
            refuse("file-extra")
    line, _, rest = rest.partition("\n")
    index = decimal(line.removeprefix("index ")) if line.startswith("index ") else None
    if index is None or index >= SIZE_MAX:
        refuse("file-index")
    path = []
    while True:
        line, end, rest = rest.partition("\n")
        if end and not line:
            break
        node = unbase64(line)
        if not end or node is None or len(node) != 32 or len(path) == PATH_MAX:
            refuse("file-path")
        path.append(node)
    body, signatures = parse_note(rest)
    return Proof(extra, index, path, *parse_checkpoint(body), signatures)


# c2sp.org/tlog-cosignature


def cosigned_message(name, timestamp, origin, size, root):
    name, origin = name.encode(), origin.encode()
    return b"".join([
        b"subtree/v1\n\0",
        bytes([len(name)]), name,
        timestamp.to_bytes(8, "big"),
        bytes([len(origin)]), origin,
        bytes(8),
        size.to_bytes(8, "big"),
        root,
    ])


def cosigned_at(public, name, proof, root, raw):
    """The timestamp of a cosignature that holds, or None."""
    timestamp, signature = int.from_bytes(raw[:8], "big"), raw[8:]
    if len(raw) != 8 + 2420 or timestamp >= 1 << 63:
        return None
    message = cosigned_message(name, timestamp, proof.origin, proof.size, root)
    try:
        public.verify(signature, message)
    except InvalidSignature:
        return None
    return timestamp


# docs/protocol/proof.md, "Checking a proof"


def check_signatures(proof, policy, led_to):
    signed, wrong, ignored, holding = set(), [], [], []
    for name, number, raw in proof.signatures:
        if (name, number) not in policy.witnesses:
            ignored.append(name)
            continue
        short, public = policy.witnesses[name, number]
        if short in signed:
            refuse("signer-twice", name)
        signed.add(short)
        timestamp = cosigned_at(public, name, proof, proof.root, raw)
        if timestamp is None:
            wrong.append((name, public, raw))
        elif timestamp:
            refuse("timestamp", f"{name} at {timestamp}")
        else:
            holding.append(name)
    if wrong:
        name, public, raw = wrong[0]
        if cosigned_at(public, name, proof, led_to, raw) is not None:
            refuse("root")
        if not holding and len(wrong) > 1:
            refuse("checkpoint")
        refuse("signature", name)
    if not policy.is_met_by(signed):
        if ignored:
            refuse("signer-outside", ignored[0])
        refuse("too-few-signers", f"{len(holding)} have signed")
    return holding


def verify(proof, policy, entry):
    if not policy.origin():
        refuse("policy-origin")
    if proof.origin != policy.origin():
        refuse("origin", proof.origin)
    if entry is not None and proof.extra is not None and entry != proof.extra:
        refuse("entry")
    both = entry is not None and proof.extra is not None
    entry = proof.extra if entry is None else entry
    if entry is None:
        refuse("entry-missing")
    if proof.index >= proof.size:
        refuse("index-range", f"{proof.index} of {proof.size}")
    if len(proof.path) != path_length(proof.index, proof.size):
        refuse("path-length")
    leaf = leaf_hash(entry)
    led_to = root_from_path(leaf, proof.index, proof.size, proof.path)
    signers = check_signatures(proof, policy, led_to)
    if led_to != proof.root:
        if proof.size <= TRIED_MAX:
            for index in range(proof.size):
                if root_from_path(leaf, index, proof.size, proof.path) == proof.root:
                    refuse("index", f"it is {index}")
        refuse("path" if both else "inclusion")
    return signers


def outcome(proof, policy, entry):
    try:
        signers = verify(parse_proof(proof), Policy.parse(policy), entry)
    except Refused as refused:
        return refused.args
    return "ok", f"{len(signers)} signers"


def check_vectors(directory):
    cases = json.loads((directory / "cases.json").read_text())["cases"]
    failed = 0
    for case in cases:
        read = {key: case[key] and (directory / case[key]).read_bytes()
                for key in ("proof", "policy", "entry")}
        found, text = outcome(**read)
        right = found == case["outcome"]
        failed += not right
        more = f" ({text})" if text else ""
        print(f"{'' if right else 'WRONG: '}{case['proof']}, {case['entry']}: {found}{more}")
    print(f"{len(cases)} cases, {failed} not as expected")
    return failed == 0 and len(cases) >= 30


def main(arguments):
    if len(arguments) == 1:
        return check_vectors(Path(arguments[0]))
    if len(arguments) not in (2, 3):
        sys.exit(__doc__)
    files = [Path(argument).read_bytes() for argument in arguments] + [None]
    found, text = outcome(*files[:3])
    print(found, text)
    return found == "ok"


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
