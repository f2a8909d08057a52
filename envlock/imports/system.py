"""Small outputs of the system's own tools: ldd, os-release, lsb_release, uname, gcc, dpkg, rpm, the kernel module."""

from __future__ import annotations

import re

from envlock.imports import facts as f
from envlock.imports.text import Block

_LDD = re.compile(r"ldd \(.{1,80}\) (\d+\.\d+)\s*\Z")
_MUSL = re.compile(r"musl libc \((\w{1,20})\)")
_RELEASE = re.compile(
    r"(?:PRETTY_NAME|NAME|ID|ID_LIKE|VERSION|VERSION_ID|VERSION_CODENAME|DISTRIB_\w{2,12}|UBUNTU_CODENAME"
    r"|\w{2,30}_URL|CPE_NAME|ANSI_COLOR|LOGO|SUPPORT_END|PLATFORM_ID|\w{2,40}_(?:PRODUCT|SUPPORT)\w{0,20})="
)
_LSB = re.compile(r"(?:Distributor ID|Description|Release|Codename|LSB Version|No LSB modules)[:\s.]")
_UNAME = re.compile(r"Linux \S{1,255} (\d+\.\S{1,120}) #\S.{0,200}? (x86_64|aarch64|ppc64le|riscv64)(?: |\Z)")
_GCC = re.compile(
    r"(?:\S{0,100}-)?(gcc|g\+\+|c\+\+)(?:-\d{1,2})?(?:\.exe)? \((.{1,200})\) (\d+\.\d+\.\d+)|gcc version (\d+\.\d+\.\d+)"
)
_DPKG = re.compile(
    r"(?:ii|hi)\s+([a-z0-9][a-z0-9+.-]{0,99})(?::\w{2,10})?\s+(\S{1,100})\s+(?:amd64|arm64|all|i386|ppc64el|<none>)\b"
)
_DPKG_OTHER = re.compile(r"[uihrp][nicurHfWt]R?\s+\S|\|\||[|+]/|\+\+\+-")
_RPM = re.compile(
    r"([A-Za-z0-9][\w.+-]{0,99})-([^-\s]{1,60}-[^-\s]{1,60})\.(?:x86_64|noarch|aarch64|i686|ppc64le)\s*\Z"
)
_NVRM = re.compile(
    r"NVRM version: NVIDIA UNIX (Open )?(?:\w{1,10} )?Kernel Module(?: for \w{1,10})?\s+(\d[\d.]{2,20})"
)


def find_libc(block: Block, start: int) -> int:
    """Start at ldd's first line."""
    line = block.lines[start]
    if _LDD.match(line):
        return start + 1
    return start + 2 if _MUSL.match(line) and len(block.lines) > start + 1 else start


def parse_libc(lines: list[str]) -> f.Facts:
    """Read ldd --version."""
    facts: f.Facts = {}
    glibc = _LDD.match(lines[0])
    if glibc:
        f.libc(facts, f"glibc {glibc.group(1)}")
    elif len(lines) > 1 and lines[1].startswith("Version "):
        f.libc(facts, f"musl {lines[1][8:]}")
    return facts


def find_release(block: Block, start: int) -> int:
    """Start at a run of os-release's keys, or of lsb_release's labels, that holds the one that matters."""
    lines = block.lines
    for shape, needed in (
        (_RELEASE, ("ID=", "VERSION_ID=", "PRETTY_NAME=", "DISTRIB_")),
        (_LSB, ("Distributor ID", "Description")),
    ):
        end = start
        while end < min(len(lines), start + 60) and shape.match(lines[end]):
            end += 1
        if any(line.startswith(needed) for line in lines[start:end]):
            return end
    return start


def parse_release(lines: list[str]) -> f.Facts:
    """Read os-release(5), lsb-release or lsb_release -a."""
    facts: f.Facts = {}
    values: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition("=") if _RELEASE.match(line) else line.partition(":")
        values.setdefault(key.strip(), value.strip().strip("\"'"))
    identity = re.match(r"[a-z0-9._-]{1,40}\Z", values.get("ID", ""))
    version = re.match(r"\d[\w.]{0,20}\Z", values.get("VERSION_ID", ""))
    if identity:
        f.put(facts, identity.group(), "os", "id")
        f.put(facts, version and version.group(), "os", "version")
    else:
        f.operating_system(
            facts,
            values.get("PRETTY_NAME") or values.get("Description") or values.get("DISTRIB_DESCRIPTION") or "",
        )
    return facts


def find_uname(block: Block, start: int) -> int:
    """Start at a line of uname -a."""
    line = block.lines[start]
    return start + 1 if line.startswith("Linux ") and _UNAME.match(line) else start


def parse_uname(lines: list[str]) -> f.Facts:
    """Read uname -a; the node's name stays behind."""
    facts: f.Facts = {}
    found = _UNAME.match(lines[0])
    if found:
        f.kernel(facts, found.group(1))
        f.arch(facts, found.group(2))
    return facts


def find_gcc(block: Block, start: int) -> int:
    """Start at the first line of gcc --version or the last of gcc -v."""
    line = block.lines[start]
    return start + 1 if ("g" in line or "c++" in line) and _GCC.match(line) else start


def parse_gcc(lines: list[str]) -> f.Facts:
    """Read a GNU compiler's version."""
    facts: f.Facts = {}
    found = _GCC.match(lines[0])
    if found:
        name, _, version, verbose = found.groups()
        if name in ("g++", "c++"):
            f.put(facts, f"{name} {version}", "compiler", "cxx")
        else:
            f.put(facts, version or verbose, "compiler", "gcc")
    return facts


def find_packages(block: Block, start: int) -> int:
    """Start at a row of dpkg -l or rpm -qa."""
    lines = block.lines
    end = start
    if _DPKG.match(lines[start]):
        while end < len(lines) and (_DPKG.match(lines[end]) or _DPKG_OTHER.match(lines[end])):
            end += 1
    else:
        while end < len(lines) and _RPM.match(lines[end]):
            end += 1
    return end


def parse_packages(lines: list[str]) -> f.Facts:
    """Read installed system packages; removed ones that left their configuration are not."""
    facts: f.Facts = {}
    for line in lines:
        found = _DPKG.match(line) or _RPM.match(line)
        if found:
            f.put(facts, found.group(2), "package", "system", found.group(1))
    return facts


def find_module(block: Block, start: int) -> int:
    """Start at the first line of /proc/driver/nvidia/version."""
    line = block.lines[start]
    return start + 1 if "NVRM version" in line and _NVRM.search(line[:400]) else start


def parse_module(lines: list[str]) -> f.Facts:
    """Read /proc/driver/nvidia/version."""
    facts: f.Facts = {}
    found = _NVRM.search(lines[0][:400])
    if found:
        f.put(facts, found.group(2), "driver", "kernel_module")
        f.put(facts, "open" if found.group(1) else "proprietary", "driver", "flavor")
    return facts
