"""Squashfs and SIF (Apptainer) images, through unsquashfs where it is installed.

``unsquashfs -pf`` prints a whole file system as one stream: a line a file, then all contents in the
same order (squashfs-tools 4.5, manual of mksquashfs, "Pseudo file definition format"). Nothing is
unpacked to disk. A SIF file holds such a file system as its primary partition (SIF specification 1.1).
"""

import json
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from envlock.roots.image.errors import ImageError, Limits
from envlock.roots.image.layers import Budget, Kept, Wanted
from envlock.roots.image.root import ImageConfig, ImageRoot
from envlock.roots.image.stream import PIECE, Ahead, Blob, Stream
from envlock.roots.image.tar import FILE, FOLDER, HARD_LINK, LINK, OTHER, Member
from envlock.roots.image.tree import UNWANTED, Folder, Layer, clean, overlay
from envlock.roots.image.wanted import searched

MAGIC = b"hsqs"
SIF_MAGIC = b"SIF_MAGIC"
_LINE_LIMIT = 1 << 16
_START = b"# START OF DATA - DO NOT MODIFY\n#\n"
_NAME = re.compile(rb'(?:"((?:[^"\\]|\\.)*)"|((?:[^\s\\]|\\.)+)) ?', re.DOTALL)
_STATED = re.compile(rb"(\d{1,18}) ([0-7]{1,6}) \d+ \d+(?: |\Z)(.*)", re.DOTALL)
"""Time, mode, user and group, then what a kind has of its own."""
_PLACED = re.compile(rb"(\d{1,18}) (\d{1,18})\b")
"""A file's size and where its content begins."""
_KINDS = {b"D": FOLDER, b"R": FILE, b"S": LINK, b"L": HARD_LINK, b"C": OTHER, b"B": OTHER, b"I": OTHER}


class _Content(NamedTuple):
    """A regular file, whose content follows in the stream."""

    offset: int
    path: str
    member: Member


def partition(blob: Blob) -> int | None:
    """Return where in a file a squashfs begins; None where the file is neither that nor a SIF."""
    head = blob.head(128)
    if head.startswith(MAGIC):
        return 0
    if head[32 : 32 + len(SIF_MAGIC)] != SIF_MAGIC or len(head) < 128:
        return None
    total, first = struct.unpack_from("<qq", head, 88)
    for number in range(min(max(total, 0), 512)):
        descriptor = os.pread(blob.descriptor, 585, first + 585 * number) if 0 <= first < blob.size else b""
        if len(descriptor) < 585:
            break
        kind, used, _, _, _, offset = struct.unpack_from("<i?IIIq", descriptor)
        filesystem, purpose = struct.unpack_from("<ii", descriptor, 201)
        if kind == 0x4004 and used and purpose == 2:
            if filesystem != 1 or not 0 < offset < blob.size:
                raise ImageError("its primary partition is no squashfs (it may be encrypted)")
            return int(offset)
    raise ImageError("it is a SIF file without a primary partition")


def read_squashfs(
    path: str, offset: int, stack: ExitStack, keep: Wanted, whole: bool, limits: Limits, tmpdir: str | None
) -> ImageRoot:
    """Read a squashfs that begins at an offset of a file; the environment is what Apptainer would set."""
    program = shutil.which("unsquashfs")
    if program is None:
        raise ImageError("it is a squashfs image: install unsquashfs (package squashfs-tools) to read it")
    budget = Budget(limits)
    layer, kept = Layer(0, budget.entries), Kept(None, tmpdir, budget)
    stack.callback(kept.close)
    with _unsquashed(program, path, offset) as pieces:
        ahead = Ahead(_counted(pieces, budget))
        try:
            read_listing(Stream(ahead), layer, kept, keep, whole)
        finally:
            ahead.close()
    kept.finish()
    layer.close()
    top = Folder()
    overlay(top, layer)
    layer.top = Folder()
    files = ImageRoot(ImageConfig(), top, [layer], [kept])
    return ImageRoot(_config(files), top, [layer], [kept])


def _counted(pieces: Iterator[bytes], budget: Budget) -> Iterator[bytes]:
    for piece in pieces:
        budget.unpack(len(piece))
        yield piece


@contextmanager
def _unsquashed(program: str, path: str, offset: int) -> Iterator[Iterator[bytes]]:
    end, start = os.pipe()
    command = [program, "-no-progress", "-pf", f"/dev/fd/{start}", "-o", str(offset), os.path.abspath(path)]
    with os.fdopen(end, "rb", buffering=0) as stream:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(start,),
            )
        finally:
            os.close(start)
        try:
            yield iter(lambda: stream.read(PIECE), b"")
            _, said = process.communicate(timeout=10)
            if process.returncode:
                text = said.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no reason given"]
                raise ImageError(
                    f"unsquashfs cannot read it ({text[0][:200]}); version 4.5 or newer is needed"
                )
        except subprocess.TimeoutExpired:
            raise ImageError("unsquashfs does not end") from None
        finally:
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()


class _Lines:
    """The lines of the head of the stream, up to the mark after which contents begin."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._held = bytearray()

    def __iter__(self) -> Iterator[bytes]:
        while not self._at_data():
            end = self._held.find(b"\n")
            if end < 0:
                if len(self._held) > _LINE_LIMIT or not self._fill():
                    return
                continue
            line = bytes(self._held[:end])
            del self._held[: end + 1]
            yield line

    def _fill(self) -> bool:
        more = self._stream.take(4096)
        self._held += more
        return bool(more)

    def _at_data(self) -> bool:
        while len(self._held) < len(_START) + 2 and self._fill():
            pass
        return self._held.startswith(b"#\n" + _START)

    def rest(self) -> bytes:
        """Return what was taken from the stream and belongs to the contents."""
        return bytes(self._held[len(_START) + 2 :])


def read_listing(stream: Stream, layer: Layer, kept: Kept, keep: Wanted, whole: bool) -> None:
    """Fill a layer from what unsquashfs prints: the files' names, then their contents; raises ImageError."""
    lines = _Lines(stream)
    contents: list[_Content] = []
    for line in lines:
        name, rest = _name(line)
        if rest[:2] == b"x ":
            continue  # an extended attribute
        kind = _KINDS.get(rest[:1])
        if kind is None or rest[1:2] != b" ":
            # Spaces in names are escaped, line breaks are not: such a name leaves a line without a kind.
            raise ImageError("it holds a file whose name has a line break")
        path = clean(name)
        if kind == HARD_LINK:
            member = Member(name, kind, 0, 0, 0, 0, _name(rest[2:])[0], False)
        else:
            time, mode, more = _matched(_STATED, rest[2:]).groups()
            if kind == FILE:
                size, offset = (int(number) for number in _matched(_PLACED, more).groups())
                member = Member(name, kind, size, size, int(mode, 8), int(time), "", False)
                contents.append(_Content(offset, path, member))
            else:
                target = more.decode("utf-8", "surrogateescape") if kind == LINK else ""
                member = Member(name, kind, 0, 0, 0, int(time), target, False)
        layer.add(path, member, UNWANTED)
    _take_contents(Stream(_chain(lines.rest(), stream)), contents, layer, kept, keep, whole)


def _chain(head: bytes, stream: Stream) -> Iterator[bytes]:
    yield head
    while piece := stream.take(PIECE):
        yield piece


def _name(text: bytes) -> tuple[str, bytes]:
    """Split an escaped name from what follows it."""
    match = _matched(_NAME, text)
    name = re.sub(rb"\\(.)", rb"\1", match[2] if match[1] is None else match[1], flags=re.DOTALL)
    return name.decode("utf-8", "surrogateescape"), text[match.end() :]


def _matched(pattern: re.Pattern[bytes], text: bytes) -> re.Match[bytes]:
    match = pattern.match(text)
    if match is None:
        raise ImageError("it is listed by unsquashfs in a way that is not understood")
    return match


def _take_contents(
    stream: Stream, contents: list[_Content], layer: Layer, kept: Kept, keep: Wanted, whole: bool
) -> None:
    for row, content in enumerate(contents):
        member = content.member
        # Files come in order; one that shares its content with an earlier one has nothing of its own.
        if content.offset < stream.position:
            continue
        if stream.skip(content.offset - stream.position) and not member.size:
            continue
        if keep(content.path, member.size, member.mode):
            start = stream.position
            layer.offset[row] = kept.copy(stream, member.size, whole or searched(content.path))
            if stream.position - start < member.size:
                raise ImageError("it is cut short")


_EXPORT = re.compile(r"^\s*export\s+([A-Za-z_]\w*)=(.*?)\s*;?\s*$", re.MULTILINE)


def _config(files: ImageRoot) -> ImageConfig:
    """Return environment and labels that Apptainer keeps in /.singularity.d."""
    environ: dict[str, str] = {}
    folder = "/.singularity.d/env"
    names = [entry.name for entry in files.scan(folder)] if files.is_dir(folder) else []
    for name in names:
        if re.match(r"\d\d-.*\.sh$", name) and files.is_file(f"{folder}/{name}"):
            text = files.read(f"{folder}/{name}", 1 << 20).decode("utf-8", "replace")
            for key, value in _EXPORT.findall(text):
                plain = _plain(key, value)
                if plain is not None:
                    environ[key] = plain
    try:
        labels = json.loads(files.read("/.singularity.d/labels.json", 1 << 20))
    except (OSError, ValueError, RecursionError):
        labels = {}
    texts = {k: v for k, v in labels.items() if isinstance(v, str)} if isinstance(labels, dict) else {}
    return ImageConfig(environ=environ, labels=texts)


def _plain(key: str, value: str) -> str | None:
    """Return what a shell would assign, where no shell is needed to know it."""
    default = re.fullmatch(rf'"?\$\{{{key}:-(.*)\}}"?', value)
    if default:
        value = default[1]
    for quote in "\"'":
        if len(value) >= 2 and value[0] == value[-1] == quote:
            value = value[1:-1]
            break
    return None if re.search(r"[$`\"]|(?<!\\)\s(?=\S+=)", value) else value
