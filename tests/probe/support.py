"""A small machine as a folder tree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from envlock.roots.folder import FolderRoot
from tests import packages_support


def write(
    folder: Path,
    files: Mapping[str, str | bytes | None],
    links: Mapping[str, str] | None = None,
    **environ: str,
) -> FolderRoot:
    """Return a root that holds these files (None makes a folder) and links, with these environment variables."""
    packages_support.write(folder, files)
    for name, target in (links or {}).items():
        path = folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    return FolderRoot(str(folder), environ)
