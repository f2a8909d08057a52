"""The kept inputs of each reader, and changes made to them by chance that a seed repeats."""

import random
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"
_ODD = [b"\x00", b"\xff", b"\x7f", b"\x1b[31m", b"\n", b"\r", b'"', b"\\", b"{", b"[", b"}", b"]", b"..", b"/", b"=",
        b"-1", b"0", b"9" * 30, b"1e999", b"null", b"\\ud800", b"\xed\xa0\x80", b"\xe2\x80\xae", b"\xef\xbb\xbf",
        b" ", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f", b"'", b"#", b";", b"@", b"*", b"%",
        b"$(id)", b"nan", b"true", b"a" * 300]  # fmt: skip


def kept(name):
    """Return a reader's kept inputs, in the order of their names."""
    return [path.read_bytes() for path in sorted((FOLDER / name).iterdir())]


def changed(name, count, seed=8, more=()):
    """Yield as many inputs, each made of the kept ones (and of ``more``) by a few changes."""
    inputs = [*kept(name), *more]
    chance = random.Random(f"{name} {seed}")
    for _ in range(count):
        data = bytearray(chance.choice(inputs))
        for _ in range(chance.choice((1, 1, 2, 4, 8))):
            _change(data, chance, inputs)
        yield bytes(data[: 64 * 1024])


def _change(data, chance, inputs):
    at = chance.randrange(len(data) + 1)
    match chance.randrange(6):
        case 0:
            data[at : at + 1] = bytes([chance.randrange(256)])
        case 1:
            data[at:at] = chance.choice(_ODD)
        case 2:
            del data[at : at + chance.choice((1, 4, 64, len(data)))]
        case 3:
            odd = chance.choice(_ODD)
            data[at : at + len(odd)] = odd
        case 4:
            other = chance.choice(inputs)
            start = chance.randrange(len(other) + 1)
            data[at:at] = other[start : start + chance.choice((8, 64, 1024))]
        case _:
            data[at:at] = data[at : at + chance.choice((4, 64))] * chance.choice((1, 20))
