"""The operating system's release, its C library and the newest symbols of its C++ library."""

import re
import shlex
from typing import Dict, List, Optional, Tuple

from envlock.probe.observation import Observation
from envlock.probe.root import Root, try_read

LIBRARY_FOLDERS = (
    "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
    "/lib64", "/usr/lib64", "/lib", "/usr/lib",
)  # fmt: skip
LIBRARY_LIMIT = 64 * 1024 * 1024
"""Bytes of a library that are searched at most; glibc and libstdc++ have about 2 MB."""


def read_os(root: Root) -> Observation:
    """Read [os]: the id and version of os-release(5), the C library, the newest GLIBCXX symbol version."""
    seen = Observation()
    table = seen.table("os")
    release = _read_release(root)
    for key, name in (("id", "ID"), ("version", "VERSION_ID")):
        if release.get(name):
            table[key] = release[name]
    libc, reason = _read_libc(root)
    if libc:
        table["libc"] = libc
    elif reason:
        seen.unobserved["os.libc"] = reason
    newest = _newest_symbol(_first(root, "libstdc++.so.6"), b"GLIBCXX_")
    if newest:
        table["libstdcxx"] = "GLIBCXX_" + newest
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
        try:
            parts = shlex.split(value)
        except ValueError:
            continue
        release[name] = parts[0] if parts else ""
    return release


def _read_libc(root: Root) -> Tuple[Optional[str], Optional[str]]:
    content = _first(root, "libc.so.6")
    if content:
        # Printed when libc.so.6 is run: "GNU C Library (...) stable release version 2.36."
        at = max(0, content.find(b"GNU C Library "))
        found = re.match(rb"GNU C Library [^\n]{0,200}release version (\d+\.\d+)", content[at : at + 300])
        version = found.group(1).decode() if found else _newest_symbol(content, b"GLIBC_")
        return ("glibc " + version, None) if version else (None, "libc.so.6 tells no version")
    for name in _musl_names(root):
        found = re.search(rb"\x00(1\.[12]\.\d{1,2})(?:-git[\w.-]{0,40})?\x00", _read(root, "/lib/" + name))
        return ("musl " + found.group(1).decode(), None) if found else (None, f"/lib/{name} tells no version")
    return None, None


def _musl_names(root: Root) -> List[str]:
    try:
        return [entry.name for entry in root.scan("/lib") if re.match(r"ld-musl-\w+\.so\.1$", entry.name)]
    except OSError:
        return []


def _first(root: Root, name: str) -> bytes:
    """Return the content of the system's library of this name, or nothing where there is none."""
    for folder in LIBRARY_FOLDERS:
        content = _read(root, f"{folder}/{name}")
        if content[:4] == b"\x7fELF":
            return content
    return b""


def _read(root: Root, path: str) -> bytes:
    try:
        return root.read(path, LIBRARY_LIMIT)
    except OSError:
        return b""


def _newest_symbol(content: bytes, prefix: bytes) -> Optional[str]:
    """Return the highest symbol version that the names in a library tell; names end in NUL in .dynstr.

    Plain search, since it is several times faster than a pattern over the 2 MB of a C++ library.
    """
    versions = set()
    at = content.find(prefix)
    for _ in range(10_000):
        if at < 0:
            break
        found = re.match(
            rb"\d{1,4}(?:\.\d{1,4}){1,3}(?=\x00)", content[at + len(prefix) : at + len(prefix) + 24]
        )
        if found:
            versions.add(tuple(int(part) for part in found.group().split(b".")))
        at = content.find(prefix, at + len(prefix))
    return ".".join(str(part) for part in max(versions)) if versions else None
