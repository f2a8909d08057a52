"""ELF headers: what a library is for, what it needs and where it says to look, without reading it whole.

The format is that of the System V ABI (gABI chapters 4 and 5, https://gabi.xinuos.com) with GNU symbol
versions (https://refspecs.linuxfoundation.org/LSB_5.0.0/LSB-Core-generic/LSB-Core-generic/symversion.html).
Only headers and the tables asked for are read, a few seeks a file; every size and count that a file claims is
bounded, so that a hostile file costs an ElfError and no more.
"""

import re
import struct
from typing import BinaryIO, Dict, List, NamedTuple, Optional, Tuple

_HEADER_LIMIT = 512
"""Program headers at most; real files have about ten."""
_SECTION_LIMIT = 4096
_DYNAMIC_LIMIT = 4096
"""Entries of the dynamic table at most; real files have about thirty."""
_STRING_LIMIT = 65536
"""Bytes of one name at most: an RPATH of a big framework has a few hundred, a C++ symbol some thousands."""
_NAMES_LIMIT = 16 * 1024 * 1024
"""Bytes of all names read in one go at most: overlapping names make a small table yield any amount."""
_VERSION_LIMIT = 8192
_BLOCK = 4096

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ = 1, 5, 10
_DT_SONAME, _DT_RPATH, _DT_RUNPATH = 14, 15, 29
_DT_FLAGS_1 = 0x6FFFFFFB
_DT_VERDEF, _DT_VERNEED = 0x6FFFFFFC, 0x6FFFFFFE
_DF_1_NODEFLIB = 0x800
_SHT_NOBITS = 8


class ElfError(ValueError):
    """A file is no ELF file, or is cut off or damaged."""


class Section(NamedTuple):
    """One section's place in the file."""

    offset: int
    size: int
    """bytes"""
    kind: int


class Elf(NamedTuple):
    """What the headers of an executable or a shared library say."""

    machine: int
    """e_machine: 62 is x86-64, 183 AArch64, 190 NVIDIA CUDA."""
    bits: int
    """32 or 64"""
    order: str
    """"<" little-endian, ">" big-endian"""
    flags: int
    """e_flags; of a CUDA object its low bits name the architecture."""
    interpreter: str
    """The program loader that an executable asks for, "" for a library."""
    needed: Tuple[str, ...]
    soname: str
    rpath: Optional[str]
    """DT_RPATH as written, folders apart by colons; None where there is none."""
    runpath: Optional[str]
    no_default: bool
    """DF_1_NODEFLIB: neither ld.so.cache nor default folders are searched for what it needs."""
    section_table: Tuple[int, int, int, int]
    """offset, entry size, count, index of the section that holds the names"""
    segments: Tuple[Tuple[int, int, int], ...]
    """virtual address, file offset, bytes in the file; of every loadable segment"""
    dynamic: Dict[int, int]
    """The dynamic table without DT_NEEDED; of a tag given twice the last counts, as for ld.so."""


def read_elf(file: BinaryIO) -> Elf:
    """Read the headers and the dynamic table of an ELF file that is open for seeking.

    Raises ElfError alone: for what is no ELF file, is cut off, or cannot be read.
    """
    head = _at(file, 0, 64)
    if len(head) < 52 or head[:4] != b"\x7fELF":
        raise ElfError("not an ELF file")
    if head[4] not in (1, 2) or head[5] not in (1, 2):
        raise ElfError("not an ELF file of 32 or 64 bits")
    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
    if wide and len(head) < 64:
        raise ElfError("the ELF header is cut off")
    machine = struct.unpack_from(order + "H", head, 18)[0]
    if wide:
        program_at, section_at, flags = struct.unpack_from(order + "QQI", head, 32)
        program_size, program_count, *section = struct.unpack_from(order + "HHHHH", head, 54)
    else:
        program_at, section_at, flags = struct.unpack_from(order + "III", head, 28)
        program_size, program_count, *section = struct.unpack_from(order + "HHHHH", head, 42)
    segments, dynamic_at, interpreter = _read_segments(
        file, order, wide, program_at, program_size, program_count
    )
    needed, dynamic = _read_dynamic(file, order, wide, dynamic_at)
    elf = Elf(
        machine=machine,
        bits=64 if wide else 32,
        order=order,
        flags=flags,
        interpreter=interpreter,
        needed=(),
        soname="",
        rpath=None,
        runpath=None,
        no_default=bool(dynamic.get(_DT_FLAGS_1, 0) & _DF_1_NODEFLIB),
        section_table=(section_at, *section),
        segments=segments,
        dynamic=dynamic,
    )
    if not dynamic:
        return elf
    strings = _strings(file, elf)
    return elf._replace(
        needed=tuple(strings.at(offset) for offset in needed),
        soname=strings.at(dynamic[_DT_SONAME]) if _DT_SONAME in dynamic else "",
        rpath=strings.at(dynamic[_DT_RPATH]) if _DT_RPATH in dynamic else None,
        runpath=strings.at(dynamic[_DT_RUNPATH]) if _DT_RUNPATH in dynamic else None,
    )


def read_sections(file: BinaryIO, elf: Elf) -> Dict[str, Section]:
    """Return where each section lies, by name; of equal names the first. Empty where a file has none."""
    offset, size, count, names_index = elf.section_table
    wide, least = elf.bits == 64, 64 if elf.bits == 64 else 40
    if not offset or not least <= size <= 256:
        return {}
    form = elf.order + ("IIQQQQI" if wide else "IIIIIII")
    if count == 0 or names_index == 0xFFFF:
        # More sections than 16 bits count: the numbers are in the first section (gABI, sh_size, sh_link).
        first = struct.unpack(form, _exactly(file, offset, struct.calcsize(form)))
        count, names_index = count or first[5], first[6] if names_index == 0xFFFF else names_index
    count = min(count, _SECTION_LIMIT)
    table = _at(file, offset, size * count)
    rows = [struct.unpack_from(form, table, at) for at in range(0, len(table) - least + 1, size)]
    if names_index >= len(rows):
        return {}
    names = _at(file, rows[names_index][4], min(rows[names_index][5], 1 << 20))
    sections: Dict[str, Section] = {}
    for name_at, kind, _, _, at, length, _ in rows:
        name = (
            names[name_at : names.find(b"\0", name_at)].decode("utf-8", "replace")
            if name_at < len(names)
            else ""
        )
        if name and kind != _SHT_NOBITS:
            sections.setdefault(name, Section(at, length, kind))
    return sections


def read_needed_versions(file: BinaryIO, elf: Elf) -> Dict[str, List[str]]:
    """Return the symbol versions that a file needs, by the library that must define them (DT_VERNEED)."""
    needs: Dict[str, List[str]] = {}
    if _DT_VERNEED not in elf.dynamic:
        return needs
    strings = _strings(file, elf)
    blocks = _Blocks(file)
    at, left = _offset(elf, elf.dynamic[_DT_VERNEED]), _VERSION_LIMIT
    while left > 0:
        _, count, library, first, step = struct.unpack(elf.order + "HHIII", blocks.read(at, 16))
        versions = needs.setdefault(strings.at(library), [])
        entry = at + first
        for _ in range(count):
            left -= 1
            if left <= 0:
                break
            _, _, _, name, more = struct.unpack(elf.order + "IHHII", blocks.read(entry, 16))
            versions.append(strings.at(name))
            entry += more
            if not more:
                break
        at, left = at + step, left - 1
        if not step:
            break
    return needs


def read_defined_versions(file: BinaryIO, elf: Elf) -> List[str]:
    """Return the symbol versions that a library defines (DT_VERDEF), its own name left out."""
    versions: List[str] = []
    if _DT_VERDEF not in elf.dynamic:
        return versions
    strings = _strings(file, elf)
    blocks = _Blocks(file)
    at = _offset(elf, elf.dynamic[_DT_VERDEF])
    for _ in range(_VERSION_LIMIT):
        _, flags, _, _, _, names, step = struct.unpack(elf.order + "HHHHIII", blocks.read(at, 20))
        if not flags & 1:  # VER_FLG_BASE: the library itself
            versions.append(strings.at(struct.unpack(elf.order + "I", blocks.read(at + names, 4))[0]))
        at += step
        if not step:
            break
    return versions


def newest_version(versions: List[str], prefix: str) -> Optional[str]:
    """Return the highest of the versions with this prefix: "GLIBCXX_" of [GLIBCXX_3.4, GLIBCXX_3.4.30]."""
    found = [re.match(re.escape(prefix) + r"(\d{1,6}(?:\.\d{1,6}){0,4})\Z", version) for version in versions]
    numbers = [tuple(int(part) for part in match.group(1).split(".")) for match in found if match]
    return prefix + ".".join(str(part) for part in max(numbers)) if numbers else None


# ---- the file -------------------------------------------------------------------------------------------


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    """Return up to ``size`` bytes at an offset; less at the end of the file."""
    if not 0 <= offset < 1 << 62:
        raise ElfError(f"offset {offset} is outside the file")
    try:
        file.seek(offset)
        data = file.read(size)
        while data and len(data) < size:
            more = file.read(size - len(data))
            if not more:
                break
            data += more
    except OSError as error:
        raise ElfError(f"cannot be read: {error.strerror or error}") from None
    return data or b""


def _exactly(file: BinaryIO, offset: int, size: int) -> bytes:
    data = _at(file, offset, size)
    if len(data) < size:
        raise ElfError(f"cut off at byte {offset + len(data)}")
    return data


class _Blocks:
    """Reads of a few bytes, many of them side by side, through blocks that are kept."""

    __slots__ = ("_file", "_held")

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._held: Dict[int, bytes] = {}

    def block(self, number: int) -> bytes:
        data = self._held.get(number)
        if data is None:
            if len(self._held) > _BLOCK:
                self._held.clear()
            data = self._held[number] = _at(self._file, number * _BLOCK, _BLOCK)
        return data

    def read(self, offset: int, size: int) -> bytes:
        number, within = divmod(offset, _BLOCK)
        data = self.block(number)[within : within + size]
        while len(data) < size:
            number += 1
            more = self.block(number)[: size - len(data)]
            if not more:
                raise ElfError(f"cut off at byte {offset + len(data)}")
            data += more
        return data


class _Strings:
    """A string table, read by the names asked for: that of a framework's library may have tens of MB."""

    __slots__ = ("_blocks", "_end", "_left", "_start")

    def __init__(self, blocks: _Blocks, start: int, size: int) -> None:
        self._blocks, self._start, self._end = blocks, start, start + size
        self._left = _NAMES_LIMIT

    def at(self, offset: int) -> str:
        """Return the name at an offset of the table."""
        position = self._start + offset
        if self._left < 0:
            raise ElfError(f"more than {_NAMES_LIMIT} bytes of names")
        if position >= self._end:
            raise ElfError(f"name {offset} is outside the string table")
        pieces, left = [], min(_STRING_LIMIT, self._end - position)
        while left > 0:
            number, within = divmod(position, _BLOCK)
            piece = self._blocks.block(number)[within : within + left]
            if not piece:
                raise ElfError("the string table is cut off")
            end = piece.find(b"\0")
            if end >= 0:
                pieces.append(piece[:end])
                self._left -= end
                return b"".join(pieces).decode("utf-8", "surrogateescape")
            pieces.append(piece)
            self._left -= len(piece)
            position, left = position + len(piece), left - len(piece)
        raise ElfError(f"name {offset} has no end")


def _strings(file: BinaryIO, elf: Elf) -> _Strings:
    table = elf.dynamic.get(_DT_STRTAB)
    if table is None:
        raise ElfError("the dynamic table names no string table")
    return _Strings(_Blocks(file), _offset(elf, table), elf.dynamic.get(_DT_STRSZ, 0))


def _offset(elf: Elf, address: int) -> int:
    """Return where in the file a virtual address lies."""
    for start, offset, size in elf.segments:
        if start <= address < start + size:
            return address - start + offset
    raise ElfError(f"address {address:#x} is in no segment of the file")


# ---- tables ---------------------------------------------------------------------------------------------


def _read_segments(
    file: BinaryIO, order: str, wide: bool, offset: int, size: int, count: int
) -> Tuple[Tuple[Tuple[int, int, int], ...], Tuple[int, int], str]:
    """Return the loadable segments, the dynamic table's (offset, size), and the interpreter's path."""
    least = 56 if wide else 32
    loads: List[Tuple[int, int, int]] = []
    dynamic, interpreter = (0, 0), ""
    if not count:
        return (), dynamic, interpreter
    if not least <= size <= 256 or count > _HEADER_LIMIT:
        raise ElfError(f"{count} program headers of {size} bytes")
    table = _exactly(file, offset, size * count)
    for at in range(0, len(table), size):
        if wide:
            kind, _, start, address, _, length = struct.unpack_from(order + "IIQQQQ", table, at)
        else:
            kind, start, address, _, length = struct.unpack_from(order + "IIIII", table, at)
        if kind == _PT_LOAD:
            loads.append((address, start, length))
        elif kind == _PT_DYNAMIC:
            dynamic = (start, length)
        elif kind == _PT_INTERP:
            text = _at(file, start, min(length, 4096))
            interpreter = text.split(b"\0")[0].decode("utf-8", "surrogateescape")
    return tuple(loads), dynamic, interpreter


def _read_dynamic(
    file: BinaryIO, order: str, wide: bool, place: Tuple[int, int]
) -> Tuple[List[int], Dict[int, int]]:
    """Return the string offsets of DT_NEEDED, and the other entries."""
    entry = struct.Struct(order + ("qQ" if wide else "iI"))
    data = _at(file, place[0], min(place[1], _DYNAMIC_LIMIT * entry.size)) if place[1] else b""
    needed: List[int] = []
    table: Dict[int, int] = {}
    for tag, value in entry.iter_unpack(data[: len(data) // entry.size * entry.size]):
        if tag == 0:
            break
        if tag == _DT_NEEDED:
            needed.append(value)
        else:
            table[tag & 0xFFFFFFFF] = value
    return needed, table
