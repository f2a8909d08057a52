"""How logs are written: lines of any length, terminal colours, JSON records; and what stands in them as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from envlock.probe.redact import mask_text

LINE_LIMIT = 4000
"""Characters of a message that are looked at: enough for a linker's line, little for a hostile one."""

RAW_LIMIT = 1 << 16
"""Characters of a line that are kept: its first and its last half. A record of a whole traceback has its error last."""

EXCERPT = 200
"""Characters of a message that are kept to show it."""

_BEFORE = 60
"""Characters before an error that are shown with it, where it does not stand at the beginning."""

BLOCK = 2048
"""Lines that are looked at together: a long log says nothing of note for megabytes."""

BLOCK_SIZE = 1 << 21
"""Characters of a block at most, but for its last line."""

_CONTROL = re.compile(r"\x1b(?:\[[0-?]{0,40}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,400}(?:\x07|\x1b\\))")
"""A terminal's control sequence (ECMA-48): colours, cursor movements, titles."""

_RECORD = re.compile(r'\{\s{0,8}"[\w.@-]{1,64}"\s{0,8}:')
_RECORD_WITHIN = 200
"""A JSON record begins within so many characters of its line, behind a timestamp or a rank."""

_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')
_ESCAPED = {"b": " ", "f": " ", "n": "\n", "r": "\n", "t": "\t"}


def lines_of(stream: TextIO) -> Iterator[str]:
    """Yield a stream's lines, of a very long one the beginning and the end, so that none costs memory without bound."""
    half = RAW_LIMIT // 2
    while line := stream.readline(half):
        piece, rest = line, ""
        while piece and not piece.endswith("\n"):
            piece = stream.readline(half)
            rest = (rest + piece)[-half:]
        yield line + rest


def blocks(lines: Iterable[str]) -> Iterator[list[tuple[int, str]]]:
    """Yield what a log says in blocks of messages, each with the number of its line, from 1."""
    number = 1
    rest = iter(lines)
    while block := _taken(rest):
        yield _numbered(block, number)
        number += len(block)


def _taken(rest: Iterator[str]) -> list[str]:
    block: list[str] = []
    size = 0
    for line in rest:
        block.append(line)
        size += len(line)
        if len(block) == BLOCK or size > BLOCK_SIZE:
            break
    return block


def _numbered(block: Sequence[str], first: int) -> list[tuple[int, str]]:
    text = "".join(block)
    if "\x1b" not in text and "{" not in text and max(map(len, block)) <= LINE_LIMIT:
        return list(enumerate(block, first))  # Plain lines, as nearly all are.
    return [(number, message) for number, line in enumerate(block, first) for message in messages(line)]


def messages(line: str) -> Iterator[str]:
    """Yield what a line says, without colours, a JSON record's text line by line; each bounded by ``LINE_LIMIT``."""
    if _RECORD.search(line, 0, _RECORD_WITHIN):
        line = _ESCAPE.sub(_unescaped, line)
    if "\x1b" in line:
        line = _CONTROL.sub("", line)
    for message in line.rstrip("\r\n").split("\n"):
        for start in range(0, len(message) or 1, LINE_LIMIT):
            yield message[start : start + LINE_LIMIT]


def _unescaped(found: re.Match[str]) -> str:
    if found[1]:
        return chr(int(found[1], 16))
    return _ESCAPED.get(found[2], found[2])


def excerpt(message: str, start: int) -> str:
    """Return the part of a message that shows what begins at ``start``: a progress bar may stand before it.

    Secrets are masked before anything is cut: half of a URL no longer looks like one.
    """
    shown = mask_text(message)
    at = start if shown == message else len(mask_text(message[:start]))
    begin = max(0, at - _BEFORE) if at > EXCERPT - _BEFORE else 0
    return shown[begin:].strip()[:EXCERPT]
