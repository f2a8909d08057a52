"""GPU code left out of what is kept: headers stay readable, payloads are an error, nothing else is touched."""

import random
import re
import shutil
import struct
import subprocess
from itertools import accumulate, pairwise
from pathlib import Path

import pytest

from envlock.probe.elf import machine_code
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


@pytest.mark.parametrize(("kind", "left_out"), [(1, 64 * 5000), (2, 64 * 5000), (8, 64 * 5000), (3, 0)])
def test_payloads_of_known_kinds_are_left_out(kind, left_out):
    content = b"\x7fELF" + bytes(4092) + fat_binary(random.Random(1).randbytes(64 * 5000), kind=kind)
    assert len(content) - sum(len(data) for _, data in sieved(content, [len(content)])) == left_out


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
            with pytest.raises(OSError, match="machine or GPU code, which was not kept"):
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


def elf(*segments):
    """The start of a library with these program headers: kind, flags, offset, bytes."""
    head = b"\x7fELF\x02\x01".ljust(32, b"\0") + struct.pack("<QQIHHH", 64, 0, 0, 64, 56, len(segments))
    rows = (
        struct.pack("<IIQQQQQQ", kind, flags, start, 0, 0, size, 0, 0)
        for kind, flags, start, size in segments
    )
    return head.ljust(64, b"\0") + b"".join(rows)


READ, WRITE, RUN = 4, 6, 5
LOAD, DYNAMIC, EH_FRAME, STACK = 1, 2, 0x6474E550, 0x6474E551
CODE = (LOAD, RUN, 1 << 16, 2 << 20)


def with_code(*more):
    """A library with a segment of 2 MiB of machine code, and GPU code behind it."""
    noise = random.Random(5).randbytes
    head = elf((LOAD, READ, 0, 5000), *more).ljust(CODE[2], b"\1") + noise(CODE[3])
    return head + noise(1000) + fat_binary(noise(64 * 5000)) + noise(WORTH)


@pytest.mark.parametrize("step", [1 << 20, 4999])
def test_machine_code_is_left_out(step):
    content = with_code(CODE, (STACK, WRITE, 0, 0), (DYNAMIC, WRITE, 70_000 + CODE[3], 300))
    kept = sieved(content, [step] * (len(content) // step + 1))
    assert all(content[start : start + len(data)] == data for start, data in kept)
    assert kept[0] == (0, content[: CODE[2]]) and kept[1][0] == CODE[2] + CODE[3]
    assert len(content) - sum(len(data) for _, data in kept) == CODE[3] + 64 * 5000


@pytest.mark.parametrize(
    "segments",
    [
        [(LOAD, RUN, 0, 3 << 20)],  # headers, names, code and constants in one
        [CODE, (EH_FRAME, READ, CODE[2] + 4096, 64)],  # constants behind the code
        [(LOAD, RUN | WRITE, 1 << 16, 2 << 20)],
        [(LOAD, READ, 1 << 16, 2 << 20)],
        [CODE, *[(LOAD, READ, 0, 1)] * 100],  # more program headers than are looked at
    ],
)
def test_a_segment_that_may_hold_more_than_machine_code_is_kept(segments):
    content = with_code(*segments)
    assert len(content) - sum(len(data) for _, data in sieved(content, [len(content)])) == 64 * 5000


def test_segments_that_lie_anywhere_do_no_harm():
    for start, size in ((1 << 16, 1 << 62), (1 << 62, 1 << 62), (1, 5), ((1 << 64) - 1, 1)):
        content = with_code((LOAD, RUN, start, size), (LOAD, RUN, 100, 200), CODE)
        kept = sieved(content, [1 << 20] * 6)
        assert all(content[at : at + len(data)] == data for at, data in kept)


@pytest.mark.skipif(not shutil.which("readelf"), reason="readelf is not installed")
def test_machine_code_is_what_readelf_calls_so():
    library = next(Path("/lib").glob("*-linux-gnu/libc.so.6"), None)
    if library is None:
        pytest.skip("no glibc in Debian's place")
    told = subprocess.check_output(["readelf", "-lW", library], text=True)
    rows = re.findall(r"LOAD +0x(\w+) 0x\w+ 0x\w+ 0x(\w+) 0x\w+ (R E|R  |RW ) ", told)
    code = [
        (int(at, 16), int(at, 16) + int(size, 16))
        for at, size, flags in rows
        if flags == "R E" and int(at, 16)
    ]
    with open(library, "rb") as opened:
        assert machine_code(opened.read(4096)) == code != []


def test_what_a_probe_searches_as_a_whole_is_kept_so(tmp_path):
    content = with_code(CODE)
    names = ["usr/lib/libcrypto.so.3", "usr/bin/python3.12", "usr/lib/libcode.so"]
    layout = Layout(tmp_path / "oci").of(layer(*(file(name, content, 0o755) for name in names)), how="gzip")
    with open_image(str(layout)) as root:
        assert root.read("/usr/lib/libcrypto.so.3") == root.read("/usr/bin/python3.12") == content
        with pytest.raises(OSError, match="machine or GPU code"):
            root.read("/usr/lib/libcode.so")
