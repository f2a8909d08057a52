"""What was read from big files before, kept between captures of the live machine by file identity.

JSON files in ``$XDG_CACHE_HOME/envlock`` or ``~/.cache/envlock``, one for each environment: a capture should
not have to read what was learnt of others. They are never needed: a cache that cannot be read or written costs
time, not facts.
"""

import json
import os
from binascii import crc32
from contextlib import suppress
from typing import Any, Callable, Dict, Optional

from envlock.probe.root import Root

_SCHEMA = "envlock-files/4"
_ENTRY_LIMIT = 3000
"""Files remembered at most; an environment of two hundred packages has five hundred. Those unused longest go first."""
_CACHE_LIMIT = 32
"""Environments remembered at most."""
_SIZE_LIMIT = 4 * 1024 * 1024


class FileCache:
    """Facts about files that are the same while device, inode, size and time of change are.

    Used as a context: what was learnt is written at its end. On any root but a live one, and without the
    prefix of an environment, it holds nothing.
    """

    def __init__(self, root: Root, prefix: Optional[str] = None) -> None:
        self._root = root
        self._path = "" if prefix is None else _cache_path(root, prefix)
        self._held = _load(self._path) if self._path else {}
        self._used: Dict[str, Any] = {}
        self._learnt = False

    def __enter__(self) -> "FileCache":
        return self

    def __exit__(self, *_: object) -> None:
        if self._path and self._learnt:
            # Unused ones stay in front, so that they are the first to be dropped.
            whole = {key: value for key, value in self._held.items() if key not in self._used}
            whole.update(self._used)
            _save(self._path, dict(list(whole.items())[-_ENTRY_LIMIT:]))

    def remember(self, kind: str, path: str, read: Callable[[], Any]) -> Any:
        """Return what ``read`` says about a file, or what it said the last time; it must be plain JSON.

        What ``read`` raises is passed on and not remembered.
        """
        if not self._path:
            return read()
        try:
            stat = self._root.stat(path)
        except OSError:
            return read()
        key = f"{kind}:{stat.device}:{stat.inode}:{stat.size}:{stat.ctime_ns}"
        if key not in self._used:
            if key in self._held:
                self._used[key] = self._held[key]
            else:
                self._used[key] = read()
                self._learnt = True
        return self._used[key]

    def export(self) -> Dict[str, Any]:
        """Return what was used and whether some of it is new, as plain values for ``absorb`` in another process."""
        return {"used": self._used, "learnt": self._learnt}

    def absorb(self, exported: Dict[str, Any]) -> None:
        """Take in what the cache of a forked child used and learnt."""
        self._used.update(exported["used"])
        self._learnt = self._learnt or exported["learnt"]


def _cache_path(root: Root, prefix: str) -> str:
    if root.kind != "live":
        return ""
    base = root.environ.get("XDG_CACHE_HOME", "")
    home = root.environ.get("HOME", "")
    if not base.startswith("/"):
        base = home.rstrip("/") + "/.cache" if home.startswith("/") else ""
    name = f"{crc32(prefix.rstrip('/').encode('utf-8', 'surrogateescape')):08x}"
    return f"{base.rstrip('/')}/envlock/files-{name}.json" if base else ""


def _load(path: str) -> Dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = file.read(_SIZE_LIMIT + 1)
        held = json.loads(content) if len(content) <= _SIZE_LIMIT else None
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(held, dict) or held.get("schema") != _SCHEMA or not isinstance(held.get("files"), dict):
        return {}
    files: Dict[str, Any] = held["files"]
    return files


def _save(path: str, files: Dict[str, Any]) -> None:
    """Replace the cache in one step, so that two captures at once leave one whole file."""
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump({"schema": _SCHEMA, "files": files}, file)
        os.replace(temporary, path)
        _forget(os.path.dirname(path))
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)


def _forget(folder: str) -> None:
    """Remove the caches of environments that were not looked at for the longest time."""
    with os.scandir(folder) as found:
        caches = [
            entry for entry in found if entry.name.startswith("files-") and entry.name.endswith(".json")
        ]
    for entry in sorted(caches, key=lambda entry: entry.stat().st_mtime_ns)[:-_CACHE_LIMIT]:
        os.unlink(entry.path)
