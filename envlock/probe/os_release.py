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
    newest = _newest_glibcxx(root)
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
        version = found.group(1).decode() if found else _newest_glibc(content)
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


def _newest_glibcxx(root: Root) -> Optional[str]:
    """Return the newest GLIBCXX_ symbol version that the system's libstdc++ defines."""
    from envlock.probe.elf import ElfError, newest_version, read_defined_versions, read_elf

    for folder in LIBRARY_FOLDERS:
        try:
            with root.open(f"{folder}/libstdc++.so.6") as file:
                return newest_version(read_defined_versions(file, read_elf(file)), "GLIBCXX_")
        except (OSError, ElfError):
            continue
    return None
