"""Where GPU code lies in a library that streams by, so that four fifths of a CUDA library need not be kept.

Probes read the headers of fat binaries, never their payloads (see envlock.probe.fatbin for the layout).
What looks like a payload is left out of the copy; reading it later is an error, not zeros.
"""

import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable

WORTH = 4 << 20
"""Bytes from which a library is searched for GPU code."""
_MAGIC = struct.pack("<IHH", 0xBA55ED50, 1, 16)
_REGION = 16
_ENTRY = 64
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
    """Passes a library on to a store, payloads of GPU code left out."""

    def __init__(self, size: int, store: Callable[[memoryview], object], stored: int) -> None:
        self.extents = Extents()
        self.stored = stored
        """where the next byte goes"""
        self._size = size
        self._store = store
        self._carry = b""
        self._at = 0
        """offset in the library of the first byte carried or fed next"""
        self._region = 0
        """bytes left of the fat binary that is being read"""
        self._drop = 0
        self._keep = 0

    def _emit(self, data: memoryview) -> None:
        if data:
            self._store(data)
            self.extents.add(self._at, len(data), self.stored)
            self.stored += len(data)
            self._at += len(data)

    def feed(self, piece: memoryview) -> None:
        """Take the next bytes."""
        data = self._carry + bytes(piece)
        view, at, end = memoryview(data), 0, len(data)
        while at < end:
            if self._keep:
                step = min(self._keep, end - at)
                self._keep -= step
                self._emit(view[at : at + step])
            elif self._drop:
                step = min(self._drop, end - at)
                self._drop -= step
                self._at += step
            elif self._region:
                if end - at < _ENTRY:
                    break
                self._entry(data, at)
                continue
            else:
                found = data.find(_MAGIC, at)
                step = (found if found >= 0 else max(at, end - _REGION + 1)) - at
                self._emit(view[at : at + step])
                at += step
                if found < 0 or end - at < _REGION:
                    break
                size = int.from_bytes(data[at + 8 : at + 16], "little")
                self._keep = _REGION
                self._region = size if size <= self._size - self._at - _REGION else 0
                continue
            at += step
        self._carry = data[at:]

    def _entry(self, data: bytes, at: int) -> None:
        """Read an entry's header and decide on its payload."""
        kind, _, header, payload = struct.unpack_from("<HHIQ", data, at)
        whole = header + payload
        if kind not in (1, 2) or not 32 <= header <= _HEADER_LIMIT or whole > self._region:
            self._region = 0  # not what it seemed, or its end: search on
            return
        self._region -= whole
        self._keep = min(whole, max(header, _ENTRY))
        if whole - self._keep > _SMALL:
            self._drop = whole - self._keep
        else:
            self._keep = whole

    def finish(self) -> None:
        """Pass on what was held back."""
        self._emit(memoryview(self._carry))
        self._carry = b""
