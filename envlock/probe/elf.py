"""ELF headers: what a library is for, what it needs and where it says to look, without reading it whole.

The format is that of the System V ABI (gABI chapters 4 and 5, https://gabi.xinuos.com) with GNU symbol
versions (https://refspecs.linuxfoundation.org/LSB_5.0.0/LSB-Core-generic/LSB-Core-generic/symversion.html).
Only headers and the tables asked for are read, a few seeks a file; every size and count that a file claims is
bounded, so that a hostile file costs an ElfError and no more.
"""

import re
import struct
from typing import BinaryIO, Dict, Iterator, List, NamedTuple, Optional, Tuple

_HEADER_LIMIT = 512
"""Program headers at most; real files have about ten."""
_SECTION_LIMIT = 4096
_ROW_LIMIT = 256
"""Bytes of one program or section header at most; they have 32 to 64."""
_DYNAMIC_LIMIT = 4096
"""Entries of the dynamic table at most; real files have about thirty."""
_STRING_LIMIT = 65536
"""Bytes of one name at most: an RPATH of a big framework has a few hundred, a C++ symbol some thousands."""
_NAMES_LIMIT = 16 * 1024 * 1024
"""Bytes of all names read in one go at most: overlapping names make a small table yield any amount."""
_VERSION_LIMIT = 8192
_BLOCK = 4096
_HELD_LIMIT = 4096
"""Blocks kept at most: 16 MiB."""

_OFFSET_LIMIT = 1 << 62
"""No file is larger, and seeking takes 63 bits."""
_PATH_LIMIT = 4096
"""Bytes of the program loader's path at most (Linux, PATH_MAX)."""

_BITS = {b"\1": 32, b"\2": 64}
_ORDERS = {b"\1": "<", b"\2": ">"}

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ = 1, 5, 10
_DT_SONAME, _DT_RPATH, _DT_RUNPATH = 14, 15, 29
_DT_FLAGS_1 = 0x6FFFFFFB
_DT_VERDEF, _DT_VERNEED = 0x6FFFFFFC, 0x6FFFFFFE
_DF_1_NODEFLIB = 0x800
_READ_EXECUTE = 5
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
    if head[:4] != b"\x7fELF":
        raise ElfError("not an ELF file")
    bits, order = _BITS.get(head[4:5]), _ORDERS.get(head[5:6])
    if bits is None or order is None:
        raise ElfError("not an ELF file of 32 or 64 bits")
    header = struct.Struct(order + ("18xH12xQQI2x5H" if bits == 64 else "18xH8xIII2x5H"))
    if len(head) < header.size:
        raise ElfError("the ELF header is cut off")
    machine, program_at, section_at, flags, row_size, row_count, *section = header.unpack_from(head)
    segments, dynamic_at, interpreter = _read_segments(file, order, bits, (program_at, row_size, row_count))
    needed, dynamic = _read_dynamic(file, order, bits, dynamic_at)
    elf = Elf(
        machine=machine,
        bits=bits,
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


def machine_code(head: bytes) -> List[Tuple[int, int]]:
    """Return (offset, end) of the parts of a 64-bit file that hold machine code and nothing else, in order.

    ``head`` is the file's start with its program headers; nothing is returned where that says less. Such a part is a
    segment that is executable and not writable, does not begin the file (where a linker makes one segment of headers,
    names, code and constants), and holds nothing that another program header leads to, as to the index of .eh_frame.
    """
    if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
        return []
    at = struct.unpack_from("<Q", head, 32)[0]
    size, count = struct.unpack_from("<HH", head, 54)
    if size != 56 or at + size * count > len(head):
        return []
    rows = list(struct.iter_unpack("<IIQQQQQQ", head[at : at + size * count]))
    code = [
        (start, start + length)
        for kind, flags, start, _, _, length, _, _ in rows
        if kind == _PT_LOAD and flags == _READ_EXECUTE and start
    ]
    # The stack's row names a place at 0, of no bytes.
    named = [start for kind, _, start, _, _, length, _, _ in rows if kind != _PT_LOAD and length]
    return sorted(each for each in code if not any(each[0] <= start < each[1] for start in named))


def read_sections(file: BinaryIO, elf: Elf) -> Dict[str, Section]:
    """Return where each section lies, by name; of equal names the first. Empty where a file has none, or no names."""
    offset, size, count, names_index = elf.section_table
    if not offset:
        return {}
    row = struct.Struct(elf.order + ("IIQQQQI20x" if elf.bits == 64 else "7I12x"))
    if count == 0 or names_index == 0xFFFF:
        # More sections than 16 bits count: the numbers are in the first section (gABI, sh_size, sh_link).
        first = row.unpack(_exactly(file, offset, row.size))
        count, names_index = count or first[5], first[6] if names_index == 0xFFFF else names_index
    rows = _rows(file, (offset, size, count), row, _SECTION_LIMIT)
    if not names_index:
        return {}
    if names_index >= len(rows):
        raise ElfError(f"the names of {len(rows)} sections are said to be in section {names_index}")
    names = _Strings(file, rows[names_index][4], rows[names_index][5])
    sections: Dict[str, Section] = {}
    for name_at, kind, _, _, at, length, _ in rows[1:]:  # the first is none (gABI, SHN_UNDEF)
        if kind != _SHT_NOBITS:
            sections.setdefault(names.at(name_at), Section(at, length, kind))
    return sections


def read_needed_versions(file: BinaryIO, elf: Elf) -> Dict[str, List[str]]:
    """Return the symbol versions that a file needs, by the library that must define them (DT_VERNEED)."""
    needs: Dict[str, List[str]] = {}
    if _DT_VERNEED not in elf.dynamic:
        return needs
    strings, chains = _strings(file, elf), _Chains(file, elf, elf.dynamic[_DT_VERNEED])
    for at, _, _, library, first, _ in chains.read(0, "HHIII"):
        versions = needs.setdefault(strings.at(library), [])
        versions += [strings.at(name) for _, _, _, _, name, _ in chains.read(at + first, "IHHII")]
    return needs


def read_defined_versions(file: BinaryIO, elf: Elf) -> List[str]:
    """Return the symbol versions that a library defines (DT_VERDEF), its own name left out."""
    versions: List[str] = []
    if _DT_VERDEF not in elf.dynamic:
        return versions
    strings, chains = _strings(file, elf), _Chains(file, elf, elf.dynamic[_DT_VERDEF])
    for at, _, flags, _, _, _, names, _ in chains.read(0, "HHHHIII"):
        if not flags & 1:  # VER_FLG_BASE: the library itself
            _, name, _ = next(chains.read(at + names, "II"))
            versions.append(strings.at(name))
    return versions


def newest_version(versions: List[str], prefix: str) -> Optional[str]:
    """Return the highest of the versions with this prefix: "GLIBCXX_" of [GLIBCXX_3.4, GLIBCXX_3.4.30]."""
    found = [re.match(re.escape(prefix) + r"(\d{1,6}(?:\.\d{1,6}){0,4})\Z", version) for version in versions]
    numbers = [tuple(int(part) for part in match.group(1).split(".")) for match in found if match]
    return prefix + ".".join(str(part) for part in max(numbers)) if numbers else None


# ---- the file -------------------------------------------------------------------------------------------


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    """Return up to ``size`` bytes at an offset; less at the end of the file."""
    if offset >= _OFFSET_LIMIT:
        raise ElfError(f"offset {offset} is outside the file")
    data = b""
    try:
        file.seek(offset)
        while len(data) < size:
            more = file.read(size - len(data))
            if not more:
                break
            data += more
    except OSError as error:
        raise ElfError(f"cannot be read: {error.strerror or error}") from None
    return data


def _exactly(file: BinaryIO, offset: int, size: int) -> bytes:
    data = _at(file, offset, size)
    if len(data) < size:
        raise ElfError(f"cut off at byte {offset + len(data)}")
    return data


class _Blocks:
    """Reads of a few bytes, many of them side by side, through blocks that are kept; counted from a table's start."""

    __slots__ = ("_file", "_held", "_start")

    def __init__(self, file: BinaryIO, start: int) -> None:
        self._file, self._start = file, start
        self._held: Dict[int, bytes] = {}

    def piece(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes, as far as one block has them; none at the end of the file."""
        number, within = divmod(offset, _BLOCK)
        if number not in self._held:
            if len(self._held) >= _HELD_LIMIT:
                self._held.clear()
            self._held[number] = _at(self._file, self._start + number * _BLOCK, _BLOCK)
        return self._held[number][within : within + size]

    def read(self, offset: int, size: int) -> bytes:
        """Return the bytes at an offset."""
        data = b""
        while len(data) < size:
            piece = self.piece(offset + len(data), size - len(data))
            if not piece:
                raise ElfError(f"cut off at byte {self._start + offset + len(data)}")
            data += piece
        return data


class _Strings:
    """A string table, read by the names asked for: that of a framework's library may have tens of MB."""

    __slots__ = ("_blocks", "_left", "_size")

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._blocks, self._size = _Blocks(file, start), size
        self._left = _NAMES_LIMIT

    def at(self, offset: int) -> str:
        """Return the name at an offset of the table."""
        if offset >= self._size:
            raise ElfError(f"name {offset} is outside the string table")
        name = b""
        limit = min(_STRING_LIMIT, self._size - offset)
        while len(name) < limit:
            piece = self._blocks.piece(offset + len(name), limit - len(name))
            if not piece:
                raise ElfError("the string table is cut off")
            part, end, _ = piece.partition(b"\0")
            name += part
            if end:
                break
        else:
            raise ElfError(f"name {offset} has no end")
        self._left -= len(name)
        if self._left < 0:
            raise ElfError(f"more than {_NAMES_LIMIT} bytes of names")
        return name.decode("utf-8", "surrogateescape")


class _Chains:
    """A table of symbol versions: lists whose entries say, in their last field, how many bytes on the next one lies."""

    __slots__ = ("_blocks", "_left", "_order")

    def __init__(self, file: BinaryIO, elf: Elf, address: int) -> None:
        self._blocks, self._order = _Blocks(file, _offset(elf, address)), elf.order
        self._left = _VERSION_LIMIT

    def read(self, at: int, form: str) -> Iterator[Tuple[int, ...]]:
        """Yield the entries of a list from its first on, each behind its place in the table."""
        entry = struct.Struct(self._order + form)
        while self._left > 0:
            self._left -= 1
            fields = entry.unpack(self._blocks.read(at, entry.size))
            yield (at, *fields)
            if not fields[-1]:
                return
            at += fields[-1]
        raise ElfError(f"more than {_VERSION_LIMIT} symbol versions")


def _strings(file: BinaryIO, elf: Elf) -> _Strings:
    table = elf.dynamic.get(_DT_STRTAB)
    if table is None:
        raise ElfError("the dynamic table names no string table")
    return _Strings(file, _offset(elf, table), elf.dynamic.get(_DT_STRSZ, 0))


def _offset(elf: Elf, address: int) -> int:
    """Return where in the file a virtual address lies."""
    for start, offset, size in elf.segments:
        if start <= address < start + size:
            return address - start + offset
    raise ElfError(f"address {address:#x} is in no segment of the file")


# ---- tables ---------------------------------------------------------------------------------------------


def _rows(
    file: BinaryIO, place: Tuple[int, int, int], row: struct.Struct, limit: int
) -> List[Tuple[int, ...]]:
    """Return the rows of a table at (offset, bytes of a row, count); they may be longer than what is known of them."""
    offset, size, count = place
    if not count:
        return []
    if not row.size <= size <= _ROW_LIMIT or count > limit:
        raise ElfError(f"{count} headers of {size} bytes")
    table = _exactly(file, offset, size * count)
    return [row.unpack_from(table, at) for at in range(0, len(table), size)]


def _read_segments(
    file: BinaryIO, order: str, bits: int, place: Tuple[int, int, int]
) -> Tuple[Tuple[Tuple[int, int, int], ...], Tuple[int, int], str]:
    """Return the loadable segments, the dynamic table's (offset, size), and the interpreter's path."""
    loads: List[Tuple[int, int, int]] = []
    dynamic, interpreter = (0, 0), ""
    row = struct.Struct(order + ("I4xQQ8xQ16x" if bits == 64 else "III4xI12x"))
    for kind, start, address, length in _rows(file, place, row, _HEADER_LIMIT):
        if kind == _PT_LOAD:
            loads.append((address, start, length))
        elif kind == _PT_DYNAMIC:
            dynamic = (start, length)
        elif kind == _PT_INTERP:
            text = _exactly(file, start, min(length, _PATH_LIMIT)).partition(b"\0")[0]
            interpreter = text.decode("utf-8", "surrogateescape")
    return tuple(loads), dynamic, interpreter


def _read_dynamic(
    file: BinaryIO, order: str, bits: int, place: Tuple[int, int]
) -> Tuple[List[int], Dict[int, int]]:
    """Return the string offsets of DT_NEEDED, and the other entries."""
    entry = struct.Struct(order + ("QQ" if bits == 64 else "II"))
    count = min(place[1] // entry.size, _DYNAMIC_LIMIT)
    needed: List[int] = []
    table: Dict[int, int] = {}
    for tag, value in entry.iter_unpack(_exactly(file, place[0], count * entry.size)):
        if tag == 0:
            break
        if tag == _DT_NEEDED:
            needed.append(value)
        else:
            table[tag] = value
    return needed, table
