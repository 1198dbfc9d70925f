"""Seeds: every random choice of a run derives from (run seed, what it is for), never from order."""

import hashlib


def derive(seed: int, *parts: int | str) -> int:
    """Derives a 63-bit seed for `parts` (such as "record", 17) under the run's `seed`."""
    text = "\x1f".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
