"""GPU code left out of what is kept: headers stay readable, payloads are an error, nothing else is touched."""

import random
import struct
from itertools import accumulate, pairwise

import pytest

from envlock.roots.image import open_image
from envlock.roots.image.gpu_code import WORTH, Sieve
from envlock.roots.image.stream import Stream
from tests.image_support import Layout, file, layer


def fat_binary(*payloads, kind=2, arch=90):
    entries = b""
    for payload in payloads:
        entries += struct.pack("<HHIQ", kind, 0x101, 64, len(payload)).ljust(28, b"\0") + struct.pack(
            "<I", arch
        )
        entries = entries.ljust(-(-len(entries) // 64) * 64, b"\0") + payload
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries


def library(seed=3):
    """A library with two fat binaries, and something between that only looks like one."""
    noise = random.Random(seed).randbytes
    large, larger = noise(64 * 5000), noise(64 * 40_000)
    bogus = (
        struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 1 << 60)
        + noise(3000)
        + struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 900)
    )
    head = b"\x7fELF" + noise(100_000)
    return (
        head
        + fat_binary(large, noise(640), larger)
        + bogus
        + noise(9000)
        + fat_binary(larger, large)
        + noise(WORTH)
    )


def sieved(content, sizes):
    """Return the library as kept: pairs of place and bytes."""
    store = bytearray()
    starts = list(accumulate(sizes, initial=0))
    pieces = [content[start:end] for start, end in pairwise([*starts, len(content)]) if start < end]
    stream = Stream([*pieces, b"the next file"])
    sieve = Sieve(stream, len(content), store.extend, 0)
    sieve.run()
    extents = sieve.extents
    assert sieve.stored == len(store)
    assert (stream.position, stream.take(99)) == (len(content), b"the next file")
    ranges = zip(extents.starts, extents.ends, extents.stored, strict=True)
    return [(start, bytes(store[place : place + end - start])) for start, end, place in ranges]


@pytest.mark.parametrize("step", [1 << 20, 4096, 64, 61])
def test_what_is_kept_does_not_hang_on_how_it_is_cut(step):
    content = library()
    kept = sieved(content, [step] * (len(content) // step + 1))
    assert kept == sieved(content, [len(content)])
    assert all(content[start : start + len(data)] == data for start, data in kept)
    left_out = len(content) - sum(len(data) for _, data in kept)
    assert left_out == 2 * 64 * 45_000  # four large payloads; the small one is not worth a gap


def test_what_only_looks_like_gpu_code_is_kept():
    content = b"\x7fELF" + struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 1 << 20) + bytes(5 << 20)
    assert sum(len(data) for _, data in sieved(content, [len(content)])) == len(content)
    cut = fat_binary(bytes(1 << 20))[:5000]
    assert sum(len(data) for _, data in sieved(cut, [len(cut)])) == len(cut)


def test_reading_around_a_gap(tmp_path):
    content = library()
    layout = Layout(tmp_path / "oci").of(
        layer(file("lib/libcuda_code.so", content), file("lib/libx.so", "after"))
    )
    start = 100_004
    with open_image(str(layout)) as root:
        with root.open("/lib/libcuda_code.so") as kept:
            kept.seek(start)
            assert kept.read(80) == content[start : start + 80]
            with pytest.raises(OSError, match="GPU code, which was not kept"):
                kept.read(1)
            kept.seek(start + 80 + 64 * 5000 - 1)
            with pytest.raises(OSError, match="GPU code"):
                kept.read(1)
            kept.seek(start + 80 + 64 * 5000)
            assert kept.read(64)[:2] == b"\x02\x00"
            kept.seek(-1000, 2)
            assert kept.read() == content[-1000:]
            assert kept.read() == b""
        with pytest.raises(OSError, match="GPU code"):
            root.read("/lib/libcuda_code.so", limit=1 << 30)
        assert root.stat("/lib/libcuda_code.so").size == len(content)
        assert root.read("/lib/libx.so") == b"after"
    with open_image(str(layout), whole=True) as root:
        assert root.read("/lib/libcuda_code.so", limit=1 << 30) == content
