"""Where code lies in a library that streams by, so that four fifths of a CUDA library need not be kept.

Probes read the headers of fat binaries, never their payloads (see envlock.probe.fatbin for the layout), and no
machine code. What looks like either is left out of the copy; reading it later is an error, not zeros.
"""

import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable

from envlock.probe.elf import machine_code
from envlock.roots.image.stream import Stream

WORTH = 4 << 20
"""Bytes from which a library is searched for code."""
_HEAD = 4096
"""Bytes at a library's start in which its program headers lie."""
_MAGIC = struct.pack("<I", 0xBA55ED50)
_VERSION = struct.pack("<HH", 1, 16)
"""What follows the magic. It is not searched for: with zeros in what is sought bytes.find is half as fast."""
_REGION = 16
_ENTRY = 64
_ENTRY_START = struct.Struct("<HHIQ")
_KINDS = (1, 2, 8)
"""Of entries: PTX, cubin, and what is still to be optimised as it is linked (in cuFFT's and cuSPARSE's wheels)."""
_HEADER_LIMIT = 4096
_SMALL = 4096
"""Payloads up to this size are kept: a gap costs more than they do."""


class Extents:
    """Which ranges of a file were kept, and where."""

    __slots__ = ("ends", "starts", "stored")

    def __init__(self) -> None:
        self.starts = array("q")
        self.ends = array("q")
        self.stored = array("q")

    def add(self, start: int, size: int, stored: int) -> None:
        """Note that a range lies at an offset of the store; ranges come in order."""
        if self.ends and self.ends[-1] == start and self.stored[-1] + start - self.starts[-1] == stored:
            self.ends[-1] += size
            return
        self.starts.append(start)
        self.ends.append(start + size)
        self.stored.append(stored)

    def at(self, offset: int) -> tuple[int, int]:
        """Return where a byte is stored, and how many follow it without a gap (0: it was not kept)."""
        number = bisect_right(self.starts, offset) - 1
        if number < 0 or offset >= self.ends[number]:
            return 0, 0
        return self.stored[number] + offset - self.starts[number], self.ends[number] - offset


class Sieve:
    """Passes a library on to a store, machine code and payloads of GPU code left out."""

    def __init__(self, stream: Stream, size: int, store: Callable[[memoryview], object], stored: int) -> None:
        self.extents = Extents()
        self.stored = stored
        """where the next byte goes"""
        self._stream = stream
        self._size = size
        self._store = store
        self._at = 0
        """offset in the library of the byte that the stream gives next"""

    def run(self) -> None:
        """Take the library off the stream, less of it only where the stream ends."""
        for start, end in machine_code(self._stream.peek(_HEAD)):
            self._part(min(start, self._size))
            self._at += self._stream.skip(max(0, min(end, self._size) - self._at))
        self._part(self._size)

    def _part(self, end: int) -> None:
        """Pass on what lies before a byte of the library, without GPU code."""
        while self._stream.until(_MAGIC, max(0, end - self._at), self._keep):
            head = self._stream.peek(_REGION)
            region = int.from_bytes(head[8:], "little")
            self._stream.skip(min(_REGION, end - self._at), self._keep)
            if head[4:8] == _VERSION and region <= end - self._at:
                self._entries(region)

    def _keep(self, data: memoryview) -> None:
        self._store(data)
        self.extents.add(self._at, len(data), self.stored)
        self.stored += len(data)
        self._at += len(data)

    def _entries(self, left: int) -> None:
        """Pass a fat binary's entries on, without large payloads, up to what is none: its end, or it only seemed one."""
        while len(head := self._stream.peek(_ENTRY_START.size)) == _ENTRY_START.size:
            kind, _, header, payload = _ENTRY_START.unpack(head)
            whole = header + payload
            if kind not in _KINDS or not 32 <= header <= _HEADER_LIMIT or whole > left:
                return
            kept = min(whole, max(header, _ENTRY))
            if whole - kept <= _SMALL:
                kept = whole
            self._stream.skip(kept, self._keep)
            self._at += self._stream.skip(whole - kept)
            left -= whole
