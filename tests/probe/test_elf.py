"""ELF headers of files that gcc makes, against what was asked of gcc and what readelf says; and damaged ones."""

import contextlib
import io
import random
import re
import shutil
import struct
import subprocess
import sys

import pytest

from envlock.probe.elf import (
    ElfError,
    newest_version,
    read_defined_versions,
    read_elf,
    read_needed_versions,
    read_sections,
)
from tests.elf_support import make_library, make_program, needs_gcc

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


@needs_gcc
def test_names_that_overlap_do_not_multiply(library):
    """4096 DT_NEEDED that all point at one long name cost an error, not gigabytes."""
    name = b"x" * 60000 + b"\0"
    dynamic = struct.pack("<qQ", 5, 0x10000) + struct.pack("<qQ", 10, len(name) + 1)
    dynamic += struct.pack("<qQ", 1, 1) * 4000 + bytes(16)
    head = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    )
    segments = struct.pack("<IIQQQQQQ", 1, 4, 0x10000, 0x10000, 0, len(name) + 1, len(name) + 1, 1)
    segments += struct.pack("<IIQQQQQQ", 2, 4, 0x100, 0x100, 0, len(dynamic), len(dynamic), 1)
    content = bytearray(0x20000 + len(name))
    content[: len(head)] = head
    content[64 : 64 + len(segments)] = segments
    # The dynamic table is 64 KiB long: it lies behind the names.
    at = 0x10000 + len(name) + 16
    content = content[:at] + dynamic
    content[64 + 56 : 64 + 112] = struct.pack("<IIQQQQQQ", 2, 4, at, at, 0, len(dynamic), len(dynamic), 1)
    content[0x10001 : 0x10001 + len(name)] = name
    with pytest.raises(ElfError, match="bytes of names"):
        read_elf(io.BytesIO(bytes(content)))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs an ELF interpreter")
def test_the_running_interpreter_reads(tmp_path):
    with open(sys.executable, "rb") as file:
        assert "libc.so.6" in read_elf(file).needed or read_elf(file).interpreter == ""
