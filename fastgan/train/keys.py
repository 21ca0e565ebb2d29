"""Seeds of a run: each a function of what is drawn, so that there is no stream whose state would have to be kept."""

from hashlib import blake2b


def key_of(*parts: object) -> int:
    """A seed from 0 to 2^63 - 1 that depends on all parts (numbers and names) and on nothing else.

    Python's own hash differs from process to process.
    """
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest(), "little") >> 1
