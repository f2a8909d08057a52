"""Which GPU architectures a library holds code for, read from the headers of its fat binaries.

The layout is not documented by NVIDIA; what is used of it was checked against nvcc 13.0 and the torch and
NCCL wheels. Section .nv_fatbin (and __nv_relfatbin, code still to be linked) is a row of fat binaries, each
8-byte aligned: u32 magic 0xBA55ED50, u16 version, u16 header size, u64 size of what follows. In it are
entries: u16 kind (1 PTX, 2 cubin), u16, u32 header size, u64 payload size, at +28 u32 architecture (90), at
+40 u64 flags. The headers are plain where the payloads are compressed (lz4, zstd).
"""

import struct
from typing import BinaryIO, Dict, Iterator, List, NamedTuple, Optional, Tuple

from envlock.probe.elf import Elf, ElfError, Section, read_elf, read_sections

_MAGIC = 0xBA55ED50
_MAGIC_BYTES = struct.pack("<I", _MAGIC)
_ELF_BYTES = b"\x7fELF"
_SECTIONS = (".nv_fatbin", "__nv_relfatbin")
_ENTRY_LIMIT = 200_000
"""Headers read of one file at most; libtorch_cuda.so has 4,000."""
_SEARCH = 65536
_ARCH_SPECIFIC = 1 << 20
"""The flag of code for exactly one GPU: sm_90a."""
_FAMILY_SPECIFIC = 1 << 21
"""The flag of code for a family of GPUs: sm_100f."""
_EM_CUDA = 190


class GpuCode(NamedTuple):
    """How often each architecture occurs; a kernel file compiled for six counts once in each."""

    archs: Dict[str, int]
    """"sm_90" -> number of cubins"""
    ptx: Dict[str, int]
    """"compute_90" -> number of PTX texts"""


def read_gpu_code(file: BinaryIO, elf: Optional[Elf] = None) -> GpuCode:
    """Count the GPU code in a library by architecture; both empty where it holds none.

    Raises ElfError for what is no ELF file; a damaged fat binary ends the count.
    """
    elf = read_elf(file) if elf is None else elf
    sections = read_sections(file, elf)
    archs: Dict[str, int] = {}
    ptx: Dict[str, int] = {}
    left = _ENTRY_LIMIT
    for name in _SECTIONS:
        if name in sections:
            for kind, arch in _entries(file, sections[name]):
                counts = archs if kind == 2 else ptx
                counts[arch] = counts.get(arch, 0) + 1
                left -= 1
                if left <= 0:
                    break
    return GpuCode(archs, ptx)


def supported(counts: Dict[str, int]) -> List[str]:
    """Return the architectures that the library as a whole is built for, oldest first.

    A few kernels are compiled for more than the rest: one of 397 files in libtorch_cuda.so for sm_89, four
    for sm_90a. They do not make the library run there, so an architecture counts only when at least half
    as many files have it as have the most common one; in the wheels that were looked at the two groups are
    above 90 and below 35 per cent.
    """
    most = max(counts.values(), default=0)
    return sorted((arch for arch, count in counts.items() if 2 * count >= most), key=arch_key)


def arch_key(arch: str) -> Tuple[int, str]:
    """Sort key that puts sm_90 and sm_90a before sm_100."""
    digits = "".join(letter for letter in arch if letter.isdigit())
    return (int(digits or 0), arch)


def _entries(file: BinaryIO, section: Section) -> Iterator[Tuple[int, str]]:
    """Yield (kind, architecture) of every PTX and cubin of a section."""
    at, end = section.offset, section.offset + section.size
    steps = 0
    while at + 16 <= end and steps < _ENTRY_LIMIT:
        steps += 1
        head = _read(file, at, 64)
        if len(head) < 16:
            return
        magic, _, header, size = struct.unpack_from("<IHHQ", head)
        if magic == _MAGIC and header >= 16:
            yield from _region(file, at + header, min(at + header + size, end))
            at += (header + size + 7) // 8 * 8
        elif head[:4] == _ELF_BYTES and len(head) == 64:
            cubin = _cubin(head)
            if cubin is not None:
                yield 2, cubin
            at += _elf_size(head)
        else:
            following = _next_start(file, at + 8, end)
            if following is None:
                return
            at = following


def _region(file: BinaryIO, at: int, end: int) -> Iterator[Tuple[int, str]]:
    while at + 48 <= end:
        head = _read(file, at, 48)
        if len(head) < 48:
            return
        kind, _, header, size = struct.unpack_from("<HHIQ", head)
        arch = struct.unpack_from("<I", head, 28)[0]
        flags = struct.unpack_from("<Q", head, 40)[0]
        if header < 32:
            return
        if kind in (1, 2) and 10 <= arch < 1000:
            yield kind, ("compute_" if kind == 1 else "sm_") + f"{arch}{_suffix(flags)}"
        at += header + size


def _suffix(flags: int) -> str:
    if flags & _ARCH_SPECIFIC:
        return "a"
    return "f" if flags & _FAMILY_SPECIFIC else ""


def _cubin(head: bytes) -> Optional[str]:
    """Return the architecture of a bare cubin from e_flags: its low byte, from ABI version 8 on the second byte."""
    machine, flags = struct.unpack_from("<H", head, 18)[0], struct.unpack_from("<I", head, 48)[0]
    arch = flags >> 8 & 0xFF if head[8] >= 8 else flags & 0xFF
    return f"sm_{arch}" if machine == _EM_CUDA and arch >= 10 else None


def _elf_size(head: bytes) -> int:
    """Return an ELF file's size in bytes, where its section table is last, as in cubins."""
    table: int = struct.unpack_from("<Q", head, 40)[0]
    entry, count = struct.unpack_from("<HH", head, 58)
    size: int = min(table, 1 << 40) + entry * count
    return max(64, (size + 7) // 8 * 8)


def _next_start(file: BinaryIO, at: int, end: int) -> Optional[int]:
    """Return where the next fat binary or cubin starts, past padding; None where there is none near."""
    data = _read(file, at, min(_SEARCH, max(0, end - at)))
    starts = [data.find(magic) for magic in (_MAGIC_BYTES, _ELF_BYTES)]
    return at + min(start for start in starts if start >= 0) if max(starts) >= 0 else None


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    try:
        file.seek(at)
        return file.read(size)
    except OSError as error:
        raise ElfError(f"cannot be read: {error.strerror or error}") from None
