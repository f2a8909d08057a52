"""ELF headers of files that gcc makes, against what was asked of gcc and what readelf says; and damaged ones."""

import contextlib
import gzip
import io
import os
import random
import re
import shutil
import subprocess
import sys
import tracemalloc

import pytest

from envlock.probe.elf import (
    Elf,
    ElfError,
    Section,
    newest_version,
    read_defined_versions,
    read_elf,
    read_needed_versions,
    read_sections,
)
from tests.elf_support import BASE, TABLES, Packer, make_library, make_program, needs_gcc

SOURCE = """
#include <stdio.h>
#include <pthread.h>
int exported(void) { return puts("x"); }
static int hidden(void) { return 1; }
int other(pthread_t t) { return pthread_join(t, 0) + hidden(); }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("elf")
    needed = make_library(folder / "libneeded.so.2", soname="libneeded.so.2")
    return make_library(
        folder / "libmade.so.1.2.3", [needed], soname="libmade.so.1", rpath="$ORIGIN/a:/b", source=SOURCE
    )


@needs_gcc
def test_the_dynamic_table(library):
    with library.open("rb") as file:
        elf = read_elf(file)
    assert elf.bits == 64
    assert elf.soname == "libmade.so.1"
    assert elf.needed == ("libneeded.so.2", "libc.so.6")
    assert (elf.rpath, elf.runpath) == ("$ORIGIN/a:/b", None)
    assert elf.interpreter == ""


@needs_gcc
def test_a_program_names_its_loader_and_runpath(tmp_path):
    with make_program(tmp_path / "program", runpath="/x", flags=["-Wl,-z,nodefaultlib"]).open("rb") as file:
        elf = read_elf(file)
    assert "/ld-" in elf.interpreter
    assert (elf.rpath, elf.runpath) == (None, "/x")
    assert elf.no_default


@needs_gcc
@pytest.mark.skipif(shutil.which("readelf") is None, reason="needs readelf")
@pytest.mark.parametrize("name", ["libc.so.6", "libstdc++.so.6", "libm.so.6", "libgomp.so.1"])
def test_system_libraries_read_as_readelf_reads_them(name):
    found = subprocess.run(
        ["gcc", f"-print-file-name={name}"], text=True, check=True, capture_output=True
    ).stdout.strip()
    told = subprocess.run(["readelf", "-dVW", found], text=True, check=True, capture_output=True).stdout
    definitions, _, needs = told.partition("Version needs section")
    listed = subprocess.run(["readelf", "-SW", found], text=True, check=True, capture_output=True).stdout
    with open(found, "rb") as file:
        elf = read_elf(file)
        assert list(elf.needed) == re.findall(r"\(NEEDED\).*\[(.*)\]", told)
        assert [elf.soname] == re.findall(r"\(SONAME\).*\[(.*)\]", told)
        needed = read_needed_versions(file, elf)
        versions = [version for names in needed.values() for version in names]
        assert sorted(versions) == sorted(re.findall(r"Name: (\S+)  Flags", needs))
        defined = [
            name
            for flags, name in re.findall(r"Flags: (\S+).*?Index: \d+  Cnt: \d+  Name: (\S+)", definitions)
            if flags != "BASE"
        ]
        assert read_defined_versions(file, elf) == defined
        sections = read_sections(file, elf)
        for row in re.findall(
            r"\] (\.\S+)\s+(?!NOBITS)\w+\s+[0-9a-f]{16} ([0-9a-f]{6,}) ([0-9a-f]{6,})", listed
        ):
            assert (sections[row[0]].offset, sections[row[0]].size) == (int(row[1], 16), int(row[2], 16))


def test_versions_are_compared_as_numbers():
    assert (
        newest_version(["GLIBC_2.4", "GLIBC_2.17", "GLIBC_PRIVATE", "GLIBCXX_3.4.99"], "GLIBC_")
        == "GLIBC_2.17"
    )
    assert newest_version(["GLIBC_PRIVATE"], "GLIBC_") is None


@pytest.mark.parametrize(
    "content",
    [b"", b"\x7fELF", b"#!/bin/sh\n" * 20, b"\x7fELF" + bytes(60), b"\x7fELF\x02\x01" + b"\xff" * 58],
)
def test_what_is_no_elf_file(content):
    with pytest.raises(ElfError):
        read_elf(io.BytesIO(content))


def read_everything(content: bytes) -> None:
    file = io.BytesIO(content)
    elf = read_elf(file)
    for read in (read_sections, read_needed_versions, read_defined_versions):
        read(file, elf)


@needs_gcc
def test_damaged_files_raise_nothing_else(library):
    """Cut off at every place, and with bytes changed in the headers and tables."""
    content = library.read_bytes()
    read_everything(content)
    for end in range(0, len(content), 41):
        with contextlib.suppress(ElfError):
            read_everything(content[:end])
    chance = random.Random(7)
    places = list(range(4, 64 + 56 * 11)) + list(range(len(content) - 64 * 29, len(content)))
    places += [*range(0x200, 0x800), *range(0x2D00, 0x3100)]
    places = [place for place in places if place < len(content)]
    for _ in range(3000):
        broken = bytearray(content)
        for _ in range(chance.choice([1, 2, 6])):
            broken[chance.choice(places)] = chance.choice([0, 1, 0x7F, 0xFF, chance.randrange(256)])
        with contextlib.suppress(ElfError):
            read_everything(bytes(broken))


# ---- files laid out by hand: every class and byte order, and each bound from both sides ---------------------


def padded(*names: bytes) -> tuple[bytes, list[int]]:
    """Return a string table whose second name lies across the first 4096 bytes, and where each name is."""
    table, places = b"\0", []
    for name in names:
        table = table.ljust(4093, b"\0") if len(places) == 1 else table
        places.append(len(table))
        table += name + b"\0"
    return table, places


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [64, 32])
def test_a_library_reads_alike_in_every_class_and_byte_order(bits, order):
    packer = Packer(bits, order)
    pack = packer.pack
    interpreter = b"/lib/\xff/ld.so\0rest"
    text, (made, first, second, a1, a2, b1, v1, v2, search) = padded(
        b"libmade.so", b"libfirst.so.1", b"libsecond.so.2", b"A_1", b"A_2", b"B_1", b"M_1", b"M_2", b"$ORIGIN/\xff"
    )  # fmt: skip
    strings = packer.names(text)
    # Version needs: two libraries, the entries of the first apart, the second behind the first 4096 bytes.
    needs = pack("HHIII", 1, 2, first, 20, 4090) + b"..." + b"." + pack("IHHII", 7, 0, 2, a1, 24) + b"." * 8
    needs += pack("IHHII", 8, 0, 3, a2, 0)
    needs = needs.ljust(4090, b".") + pack("HHIII", 1, 1, second, 16, 0) + pack("IHHII", 9, 0, 4, b1, 0)
    needs_at = packer.table(needs)
    defined_at = packer.table(
        pack("HHHHIII", 1, 1, 1, 1, 5, 20, 28) + pack("II", made, 0)
        + pack("HHHHIII", 1, 2, 2, 2, 6, 24, 40) + b"...." + pack("II", v2, 8) + pack("II", v1, 0)
        + pack("HHHHIII", 1, 0, 3, 1, 7, 20, 0) + pack("II", v1, 0)
    )  # fmt: skip
    packer.program(1, 0x10, 0x20, address=0x1000)
    packer.program(1, 0, 1 << 20, address=BASE)
    packer.program(3, packer.table(interpreter), len(interpreter))
    packer.dynamic(
        (1, first), (14, made), (1, second), (29, search), *strings, (0x6FFFFFFB, 1),
        (0x6FFFFFFC, BASE + defined_at), (0x6FFFFFFE, BASE + needs_at), (0, 0), (1, made), (15, made),
    )  # fmt: skip
    names = b"\0.text\0.bss\0"
    names_at = packer.table(names)
    packer.sections((1, 1, 16, 32), (7, 8, 48, 64), (1, 1, 80, 96), (7, 3, names_at, len(names)), names=4)
    file = io.BytesIO(packer.file())
    elf = read_elf(file)
    assert elf._replace(dynamic={}, section_table=(0, 0, 0, 0)) == Elf(
        machine=183, bits=bits, order=order, flags=0x50005, interpreter="/lib/\udcff/ld.so",
        needed=("libfirst.so.1", "libsecond.so.2"), soname="libmade.so", rpath=None, runpath="$ORIGIN/\udcff",
        no_default=False, section_table=(0, 0, 0, 0), segments=((0x1000, 0x10, 0x20), (BASE, 0, 1 << 20)), dynamic={},
    )  # fmt: skip
    assert read_sections(file, elf) == {".text": Section(16, 32, 1), ".bss": Section(names_at, len(names), 3)}
    assert read_needed_versions(file, elf) == {"libfirst.so.1": ["A_1", "A_2"], "libsecond.so.2": ["B_1"]}
    assert read_defined_versions(file, elf) == ["M_2", "M_1"]


def packed(build=lambda packer: None, bits=64, **header) -> bytes:
    packer = Packer(bits, **header)
    packer.program(1, 0, 1 << 20, address=BASE)
    build(packer)
    return packer.file()


@pytest.mark.parametrize("bits", [64, 32])
def test_a_program_without_any_table(bits):
    least = 64 if bits == 64 else 52
    file = io.BytesIO(packed(bits=bits, count=0, row=0, section=0)[:least])
    elf = read_elf(file)
    assert elf[:11] == (183, bits, "<", 0x50005, "", (), "", None, None, False, (0, 0, 0, 0))
    assert elf.segments == () and elf.dynamic == {}
    assert (read_sections(file, elf), read_needed_versions(file, elf), read_defined_versions(file, elf)) == (
        {},
        {},
        [],
    )


def needing(names: bytes, *offsets: int, size=None):
    """Return a builder of a dynamic table that needs the names at these offsets."""

    def build(packer):
        (table, (_, whole)) = packer.names(names)
        packer.dynamic(table, (10, whole if size is None else size), *((1, offset) for offset in offsets))

    return build


def with_sections(count=1, name=0, names=1, table=b"\0"):
    def build(packer):
        packer.sections(*[(name, 3, packer.table(table), len(table))] * count, names=names)

    return build


def with_versions(count: int, *, libraries: bool):
    """Return a builder of as many version needs: of one library, or each of a library of its own."""

    def build(packer):
        strings = packer.names(b"\0")
        more = 32 if libraries else 16
        one = packer.pack("HHIII", 1, 1, 0, 16, more if libraries else 0) + packer.pack(
            "IHHII", 0, 0, 0, 0, 0
        )
        entry = one if libraries else packer.pack("IHHII", 0, 0, 0, 0, more)
        content = entry * count if libraries else one[:16] + entry * count
        content = content[:-20] + bytes(4) + content[-16:] if libraries else content[:-4] + bytes(4)
        packer.dynamic(*strings, (0x6FFFFFFE, BASE + packer.table(content)))

    return build


def with_versions_at(place: int):
    return lambda packer: packer.dynamic(*packer.names(b"\0"), (0x6FFFFFFE, BASE + place))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (packed()[:3], "not an ELF file"),
        (b"\x7fELG" + packed()[4:], "not an ELF file"),
        (packed()[:5], "not an ELF file of 32 or 64 bits"),
        (b"\x7fELF\x03" + packed()[5:], "not an ELF file of 32 or 64 bits"),
        (b"\x7fELF\x02\x00" + packed()[6:], "not an ELF file of 32 or 64 bits"),
        (packed()[:63], "the ELF header is cut off"),
        (packed(bits=32)[:51], "the ELF header is cut off"),
        (packed(count=513), "513 headers of 56 bytes"),
        (packed(row=55), "1 headers of 55 bytes"),
        (packed(row=257), "1 headers of 257 bytes"),
        (packed(bits=32, row=31), "1 headers of 31 bytes"),
        (packed()[:119], "cut off at byte 119"),
        (packed(lambda packer: packer.program(3, 1 << 40, 9)), f"cut off at byte {1 << 40}"),
        (packed(lambda packer: packer.program(3, 1 << 62, 9)), f"offset {1 << 62} is outside the file"),
        (packed(lambda packer: packer.program(2, 1 << 40, 32)), f"cut off at byte {1 << 40}"),
        (packed(lambda packer: packer.dynamic((14, 0))), "the dynamic table names no string table"),
        (packed(lambda packer: packer.dynamic((5, 0x99))), "address 0x99 is in no segment of the file"),
        (packed(lambda packer: packer.dynamic((5, BASE), (14, 0))), "name 0 is outside the string table"),
        (packed(needing(b"abc\0", 4)), "name 4 is outside the string table"),
        (packed(needing(b"abc", 1)), "name 1 has no end"),
        (packed(needing(b"x" * 65537 + b"\0", 1)), "name 1 has no end"),
        (packed(needing(b"", 1 << 19, size=1 << 21)), "the string table is cut off"),
        (packed(needing(b"x" * 65535 + b"\0", *[0] * 256, 65535 - 257)), "more than 16777216 bytes of names"),
        (packed(with_sections(count=4096)), "4097 headers of 64 bytes"),
        (packed(with_sections(), section=63), "2 headers of 63 bytes"),
        (packed(with_sections(), section=257), "2 headers of 257 bytes"),
        (packed(with_sections(), sections_at=1 << 40), f"cut off at byte {1 << 40}"),
        (packed(with_sections(), sections_at=1 << 40, section_count=0), f"cut off at byte {1 << 40}"),
        (packed(with_sections(names=2)), "the names of 2 sections are said to be in section 2"),
        (packed(with_sections(name=1)), "name 1 is outside the string table"),
        (packed(with_sections(table=b"x" * 60000 + b"\0", count=400)), "more than 16777216 bytes of names"),
        (packed(with_versions(8192, libraries=False)), "more than 8192 symbol versions"),
        (packed(with_versions(4097, libraries=True)), "more than 8192 symbol versions"),
        (packed(with_versions_at(TABLES + 1 + 48 - 8)), f"cut off at byte {TABLES + 1 + 48}"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)  # fmt: skip
def test_what_is_damaged_or_beyond_a_bound_is_said_in_a_sentence(content, said):
    with pytest.raises(ElfError) as refused:
        read_everything(content)
    assert str(refused.value) == said


@pytest.mark.parametrize(
    "content",
    [
        packed(count=512, row=256) + bytes(512 * 256),
        packed(needing(b"abc\0", 3)),
        packed(needing(b"x" * 65535 + b"\0", 0)),
        packed(needing(b"x" * 65535 + b"\0", *[0] * 256, 65535 - 256)),
        packed(with_sections(count=4095)),
        packed(with_sections(count=1), section=256),
        packed(with_versions(8191, libraries=False)),
        packed(with_versions(4096, libraries=True)),
    ],
)
def test_what_lies_within_its_bound_is_read(content):
    read_everything(content)


@pytest.mark.parametrize(
    ("header", "size", "link"),
    [
        ({}, 0xBAD, 0xBAD),
        ({"section_count": 0}, 3, 0xBAD),
        ({"names": 0xFFFF}, 0xBAD, 2),
        ({"section_count": 0, "names": 0xFFFF}, 3, 2),
    ],
)
def test_more_sections_than_the_header_can_count_are_counted_in_the_first(header, size, link):
    packer = Packer(**header)
    names = b"\0.text\0.shstrtab\0"
    names_at = packer.table(names)
    packer.sections((1, 1, 16, 32), (7, 3, names_at, len(names)), names=2, first=(size, link))
    file = io.BytesIO(packer.file())
    assert list(read_sections(file, read_elf(file))) == [".text", ".shstrtab"]


def test_sections_without_names_are_none():
    file = io.BytesIO(packed(with_sections(names=0)))
    assert read_sections(file, read_elf(file)) == {}


class FewAtATime(io.BytesIO):
    """Gives few bytes at a time, as a file without a buffer may."""

    def read(self, size=-1):
        return super().read(min(size, 7))


def test_a_file_may_give_less_than_was_asked_for():
    content = packed(needing(b"\0libc.so.6\0", 1))
    assert read_elf(FewAtATime(content)) == read_elf(io.BytesIO(content))


def test_a_file_that_cannot_be_read_says_why():
    damaged = gzip.GzipFile(fileobj=io.BytesIO(b"no such format"))
    with damaged, pytest.raises(ElfError, match=r"\Acannot be read: Not a gzipped file"):
        read_elf(damaged)
    with open("/proc/self/mem", "rb") as unmapped, pytest.raises(ElfError) as refused:
        read_elf(unmapped)
    assert str(refused.value) == "cannot be read: Input/output error"


def test_names_far_apart_are_not_all_kept_in_memory(tmp_path):
    """8000 versions whose names lie 8 KiB apart: blocks of 31 MiB, of which 16 MiB are held."""
    packer = Packer()
    packer.program(1, 0, 1 << 30, address=BASE)
    entries = [packer.pack("IHHII", 0, 0, 0, number << 13, 16) for number in range(1, 8000)]
    needs = packer.pack("HHIII", 1, 1, 0, 16, 0) + b"".join(entries) + packer.pack("IHHII", 0, 0, 0, 0, 0)
    strings = [(5, BASE + (1 << 20)), (10, 8000 << 13)]
    packer.dynamic(*strings, (0x6FFFFFFE, BASE + packer.table(needs)))
    path = tmp_path / "sparse.so"
    path.write_bytes(packer.file())
    os.truncate(path, (1 << 20) + (8000 << 13))
    with path.open("rb") as file:
        elf = read_elf(file)
        tracemalloc.start()
        try:
            assert read_needed_versions(file, elf) == {"": [""] * 8000}
            assert tracemalloc.get_traced_memory()[1] < 20 << 20
        finally:
            tracemalloc.stop()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs an ELF interpreter")
def test_the_running_interpreter_reads(tmp_path):
    with open(sys.executable, "rb") as file:
        assert "libc.so.6" in read_elf(file).needed or read_elf(file).interpreter == ""
