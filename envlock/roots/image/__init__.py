"""Images read without an engine: nothing is pulled, mounted or run, and nothing but the image is needed."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from envlock.roots.image.errors import ImageError, Limits
from envlock.roots.image.layers import Wanted, read_layers
from envlock.roots.image.layout import find_image
from envlock.roots.image.root import ImageConfig, ImageRoot
from envlock.roots.image.source import ArchiveBlobs, Blobs, FolderBlobs, open_archive, split_tag
from envlock.roots.image.squashfs import partition, read_squashfs
from envlock.roots.image.wanted import wanted

__all__ = ["ImageConfig", "ImageError", "ImageRoot", "Limits", "open_image", "wanted"]


@contextmanager
def open_image(
    source: str | BinaryIO,
    platform: str | None = None,
    tmpdir: str | None = None,
    *,
    keep: Wanted = wanted,
    whole: bool = False,
    limits: Limits | None = None,
) -> Iterator[ImageRoot]:
    """Read an image and give its files and environment as a root.

    ``source`` is the path of an OCI layout (folder or tar) or of an archive by ``docker save`` (gzip
    and zstd are undone), with ":tag" where it holds several images, or of a squashfs or SIF image
    (unsquashfs must be installed); "-" or an open binary file is such an archive as a stream.
    ``platform`` is "os/architecture[/variant]"; the default is Linux on this
    machine's architecture, else the only one there is. ``keep(path, size, mode)`` chooses the files
    whose content can be read later; the code of large libraries, which no probe reads, is left out
    unless ``whole``. To compare every file with its record: ``keep=lambda *_: True, whole=True``. All
    that is written goes to files without names in ``tmpdir``.

    Raises ImageError, one sentence that names the image, on anything that is wrong with it.
    """
    limits = limits or Limits()
    name = source if isinstance(source, str) else str(getattr(source, "name", "stream"))
    if source == "-":
        source, name = sys.stdin.buffer, "on stdin"
    with ExitStack() as stack:
        try:
            root = _open(source, platform, tmpdir, keep, whole, limits, stack)
        except ImageError as error:
            raise ImageError(f"cannot read image {name}: {error}") from None
        except OSError as error:
            raise ImageError(f"cannot read image {name}: {error.strerror or error}") from None
        yield root


def _open(
    source: str | BinaryIO,
    platform: str | None,
    tmpdir: str | None,
    keep: Wanted,
    whole: bool,
    limits: Limits,
    stack: ExitStack,
) -> ImageRoot:
    tag = ""
    if isinstance(source, str):
        source, tag = split_tag(source)
    blobs: Blobs
    if isinstance(source, str) and os.path.isdir(source):
        blobs = FolderBlobs(source, stack)
    else:
        try:
            archive = open_archive(source, stack, limits, tmpdir)
            offset = partition(archive) if isinstance(source, str) else None
            if isinstance(source, str) and offset is not None:
                return read_squashfs(source, offset, stack, keep, whole, limits, tmpdir)
            blobs = ArchiveBlobs(archive)
        except ImageError as error:
            text = str(error)
            raise ImageError(text if text.startswith("it ") else f"it {text}") from None
    found = find_image(blobs, platform, tag, limits)
    if found is None:
        raise ImageError("it is neither an OCI layout nor an archive by `docker save`")
    top, trees, kept = read_layers(found.layers, stack, keep, limits, tmpdir, whole)
    return ImageRoot(found.config, top, trees, kept)
