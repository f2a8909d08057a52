"""The operating system's release, its C library and the newest symbols of its C++ library."""

import re
from typing import Dict, List, Optional, Tuple

from envlock.probe.cache import FileCache
from envlock.probe.observation import Observation
from envlock.probe.root import Root, try_read

LIBRARY_FOLDERS = (
    "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
    "/lib64", "/usr/lib64", "/lib", "/usr/lib",
)  # fmt: skip
LIBRARY_LIMIT = 64 * 1024 * 1024
"""Bytes of a library that are searched at most; glibc and libstdc++ have about 2 MB."""


def read_os(root: Root, cache: Optional[FileCache] = None) -> Observation:
    """Read [os]: the id and version of os-release(5), the C library, the newest GLIBCXX symbol version."""
    seen = Observation()
    cache = FileCache(root) if cache is None else cache
    table = seen.table("os")
    release = _read_release(root)
    for key, name in (("id", "ID"), ("version", "VERSION_ID")):
        if release.get(name):
            table[key] = release[name]
    libc, reason = _read_libc(root, cache)
    if libc:
        table["libc"] = libc
    elif reason:
        seen.unobserved["os.libc"] = reason
    newest = _newest_glibcxx(root, cache)
    if newest:
        table["libstdcxx"] = newest
    return seen


def _read_release(root: Root) -> Dict[str, str]:
    text = try_read(root, "/etc/os-release", 65536)
    if text is None:
        text = try_read(root, "/usr/lib/os-release", 65536) or ""
    release: Dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or name.startswith("#"):
            continue
        unquoted = _unquote(value)
        if unquoted is not None:
            release[name] = unquoted
    return release


def _unquote(value: str) -> Optional[str]:
    """Return the first word of a shell's assignment; None where its quotes do not close."""
    if re.match(r"[\w.:/+-]*\Z", value, re.A):
        return value
    if re.match(r'"[\w .:/()+-]*"\Z', value, re.A):
        return value[1:-1]
    import shlex

    try:
        return (shlex.split(value) or [""])[0]
    except ValueError:
        return None


def _read_libc(root: Root, cache: FileCache) -> Tuple[Optional[str], Optional[str]]:
    for folder in LIBRARY_FOLDERS:
        path = folder + "/libc.so.6"
        try:
            version = cache.remember("libc", path, lambda path=path: _glibc_version(root, path))  # type: ignore[misc]
        except OSError:
            continue
        if version is not None:
            return (f"glibc {version}", None) if version else (None, "libc.so.6 tells no version")
    for name in _musl_names(root):
        found = re.search(rb"\x00(1\.[12]\.\d{1,2})(?:-git[\w.-]{0,40})?\x00", _read(root, "/lib/" + name))
        return ("musl " + found.group(1).decode(), None) if found else (None, f"/lib/{name} tells no version")
    return None, None


def _musl_names(root: Root) -> List[str]:
    try:
        return [entry.name for entry in root.scan("/lib") if re.match(r"ld-musl-\w+\.so\.1$", entry.name)]
    except OSError:
        return []


def _glibc_version(root: Root, path: str) -> Optional[str]:
    """Return the version of a glibc, "" where it tells none, and None for what is no library."""
    content = root.read(path, LIBRARY_LIMIT)
    if content[:4] != b"\x7fELF":
        return None
    # Printed when libc.so.6 is run: "GNU C Library (...) stable release version 2.36."
    at = max(0, content.find(b"GNU C Library "))
    found = re.match(rb"GNU C Library [^\n]{0,200}release version (\d+\.\d+)", content[at : at + 300])
    return found.group(1).decode() if found else _newest_glibc(content) or ""


def _read(root: Root, path: str) -> bytes:
    try:
        return root.read(path, LIBRARY_LIMIT)
    except OSError:
        return b""


def _newest_glibc(content: bytes) -> Optional[str]:
    """Return the newest GLIBC_ symbol version that a libc defines, for one without its banner."""
    import io

    from envlock.probe.elf import ElfError, newest_version, read_defined_versions, read_elf

    file = io.BytesIO(content)
    try:
        newest = newest_version(read_defined_versions(file, read_elf(file)), "GLIBC_")
    except ElfError:
        return None
    return newest[len("GLIBC_") :] if newest else None


def _newest_glibcxx(root: Root, cache: FileCache) -> Optional[str]:
    """Return the newest GLIBCXX_ symbol version that the system's libstdc++ defines."""
    for folder in LIBRARY_FOLDERS:
        path = folder + "/libstdc++.so.6"
        try:
            newest = cache.remember("libstdcxx", path, lambda path=path: _glibcxx_of(root, path))  # type: ignore[misc]
        except (OSError, ValueError):  # ElfError is a ValueError
            continue
        return str(newest) if newest else None
    return None


def _glibcxx_of(root: Root, path: str) -> Optional[str]:
    from envlock.probe.elf import newest_version, read_defined_versions, read_elf

    with root.open(path) as file:
        return newest_version(read_defined_versions(file, read_elf(file)), "GLIBCXX_")
