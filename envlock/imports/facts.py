"""The phrases that many reports share, and the manifest's facts in them.

Reports write down what a tool could not find as "N/A", "None" or "Could not collect": such a value is
unknown and becomes no fact at all.
"""

from __future__ import annotations

import re
from typing import Any

Facts = dict[str, Any]
"""A part of a manifest as plain tables and lists."""

_UNKNOWN = {
    "", "-", "--", "?", "n/a", "na", "[n/a]", "none", "null", "nan", "unknown", "unknown error", "not set", "<not set>",
    "not available", "not installed", "not found", "module not found", "could not collect", "no cuda", "err!",
    "[not supported]", "not supported", "[unknown error]", "[gpu requires reset]", "not applicable", "undefined",
    "false", "fail", "failed to import", "not defined", "<fill in>", "missing", "unavailable", "not built",
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?\Z")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+!_~:^-]{0,99}\Z")
_DOTTED = re.compile(r"(?<![\w.])\d{1,6}(?:\.\d{1,6}){1,4}")
_PYTHON = re.compile(r"\s*(\d\.\d{1,2}(?:\.\d{1,3})?(?:(?:a|b|rc)\d{1,2})?)")
_PARENTHESES = re.compile(r"\([^()]{0,200}\)")
_PLATFORM = re.compile(
    r"Linux-(\S{1,160})-(x86_64|aarch64|arm64|ppc64le|s390x|riscv64|i686|armv7l)"
    r"(?:-[\w]{0,20})?-with-(?:glibc(\d+\.\d+)|([A-Za-z]+)-([\d.]+)|\S)"
)
_FILE = re.compile(r"(?:.{0,1024}/)?lib(\w{1,40})\.so(?:\.([\d.]{1,30}))?\Z")
_DLL = re.compile(r"(?:.{0,1024}\\)?(cudnn\w{0,30}?)64_(\d{1,3})\.dll\Z", re.I)
_GPU = re.compile(r"GPU ([\d,]{1,200}): (\S.{0,120})")

OS_NAMES = (
    ("ubuntu", "ubuntu", 2), ("debian", "debian", 1), ("centos stream", "centos", 1), ("centos", "centos", 1),
    ("red hat", "rhel", 2), ("rocky", "rocky", 2), ("alma", "almalinux", 2), ("amazon linux", "amzn", 1),
    ("fedora", "fedora", 1), ("opensuse leap", "opensuse-leap", 2), ("arch linux", "arch", 0),
    ("manjaro", "manjaro", 0), ("linux mint", "linuxmint", 2), ("pop!_os", "pop", 2), ("nixos", "nixos", 2),
    ("oracle linux", "ol", 2), ("azure linux", "azurelinux", 2), ("cbl-mariner", "mariner", 2),
    ("alpine", "alpine", 3), ("scientific linux", "scientific", 2), ("kali", "kali", 2),
)  # fmt: skip
"""How a distribution is called in prose, its ID in os-release, and how many numbers its VERSION_ID has."""


def known(value: Any) -> str | None:
    """Return the value's text without its edges, or None where a report says that it does not know."""
    if not isinstance(value, str):
        return None
    text = value.strip()
    lower = text.lower()
    if lower in _UNKNOWN or lower.startswith(
        ("could not collect", "not installed", "[deprecated", "module not found")
    ):
        return None
    return text


def put(facts: Facts, value: Any, *keys: str) -> None:
    """Set a fact unless it is unknown or set already: what is said first stands."""
    if isinstance(value, str):
        value = known(value)
    if value is None:
        return
    table = facts
    for key in keys[:-1]:
        table = table.setdefault(key, {})
    table.setdefault(keys[-1], value)


def absent(facts: Facts, *keys: str) -> None:
    """Set a fact to "": a report says that it was looked for and is not there."""
    table = facts
    for key in keys[:-1]:
        table = table.setdefault(key, {})
    table.setdefault(keys[-1], "")


def normalise(name: str) -> str:
    """Spell a Python project's name as PEP 503 does."""
    return re.sub(r"[-_.]+", "-", name).lower()


def is_name(text: str) -> bool:
    """Tell whether a text may be a package's name."""
    return _NAME.match(text) is not None


def is_version(text: str) -> bool:
    """Tell whether a text may be a version: one word that begins with a digit, or with v and a digit."""
    return _VERSION.match(text) is not None and (
        text[0].isdigit() or (text[:1] == "v" and text[1:2].isdigit())
    )


def dotted(text: str) -> str | None:
    """Return the first version of numbers in a text ("release 12.4, V12.4.131" gives "12.4")."""
    found = _DOTTED.search(text[:400])
    return found.group() if found else None


def pip_package(facts: Facts, name: str, version: str | None = None, **more: Any) -> None:
    """Record a Python distribution; its version may be unknown."""
    version = known(version)
    if not is_name(name) or (version is not None and not is_version(version)):
        return
    entry = facts.setdefault("package", {}).setdefault("pip", {}).setdefault(normalise(name), {})
    for key, value in (("version", version), *more.items()):
        if value not in (None, "", False):
            entry.setdefault(key, value)


def conda_package(facts: Facts, name: str, version: str | None, build: str | None = None, channel: str | None = None,
                  **more: Any) -> None:  # fmt: skip
    """Record a conda package; those that `conda list` shows from channel "pypi" are pip's."""
    version, build, channel = known(version), known(build), known(channel)
    if not is_name(name.lstrip("_")) or (version is not None and not _VERSION.match(version)):
        return
    if build is not None and not re.match(r"[A-Za-z0-9_.+-]{1,120}\Z", build):
        build = None
    if channel is not None and not re.match(r"\S{1,300}\Z", channel):
        channel = None
    if channel == "pypi" or build == "pypi_0":
        pip_package(facts, name, version)
        return
    entry = facts.setdefault("package", {}).setdefault("conda", {}).setdefault(name.lower(), {})
    for key, value in (("version", version), ("build", build), ("channel", channel), *more.items()):
        if value:
            entry.setdefault(key, value)


def framework(facts: Facts, name: str, version: str | None) -> None:
    """Record a framework's version, with or without a local part ("2.4.0+cu124")."""
    version = known(version)
    word = version.split()[0].strip(",;()'\"") if version else ""
    if is_version(word):
        put(facts, word, "framework", name, "version")


def python(facts: Facts, text: str) -> None:
    """Record the interpreter from the first line of sys.version ("3.11.9 (main, ...) [GCC 11.4.0]")."""
    found = _PYTHON.match(text.removeprefix("Python "))
    if found:
        put(facts, found.group(1), "python", "version")


def gcc_version(text: str) -> str | None:
    """Return the version of a compiler's first line: the vendor's own stands in parentheses before it."""
    text = text[:400]
    for _ in range(4):
        text = _PARENTHESES.sub(" ", text)
    return dotted(text)


def nvcc(facts: Facts, text: str, home: str | None = None) -> None:
    """Record nvcc from its version line ("Cuda compilation tools, release 12.4, V12.4.131") or its number."""
    found = re.search(r"\bV(\d{1,3}(?:\.\d{1,4}){1,3})", text[:400])
    version = found.group(1) if found else dotted(text)
    if version is None:
        return
    put(facts, version, "compiler", "nvcc")
    entry: Facts = {"version": version, "active": True}
    if home is not None and re.match(r"/|[A-Za-z]:\\", home):
        entry["path"] = home
    facts.setdefault("toolkit", []).append(entry)


def arch(facts: Facts, text: str) -> None:
    """Record the processor's architecture as uname spells it."""
    text = {"amd64": "x86_64", "AMD64": "x86_64", "64-bit": "x86_64"}.get(text, text)
    if text in ("x86_64", "aarch64", "arm64", "ppc64le", "s390x", "riscv64"):
        put(facts, text, "host", "arch")


def kernel(facts: Facts, release: str) -> None:
    """Record a Linux kernel release, and whether it is WSL's or a Tegra's."""
    if not re.match(r"\d+\.\d+[\w.+~-]{0,120}\Z", release):
        return
    put(facts, release, "host", "kernel")
    lower = release.lower()
    put(facts, "wsl2" if "microsoft" in lower and "-microsoft" in lower else "tegra" if "tegra" in lower else "linux",
        "host", "platform")  # fmt: skip


def platform(facts: Facts, text: str) -> None:
    """Record what platform.platform() says ("Linux-6.8.0-45-generic-x86_64-with-glibc2.35")."""
    text = text.strip()[:300]
    if text.startswith("Windows"):
        put(facts, "windows", "host", "platform")
    elif text.startswith(("macOS", "Darwin")):
        put(facts, "darwin", "host", "platform")
        if "arm64" in text:
            arch(facts, "arm64")
    found = _PLATFORM.match(text)
    if not found:
        return
    release, machine, glibc, name, version = found.groups()
    kernel(facts, release)
    arch(facts, machine)
    if glibc:
        put(facts, f"glibc {glibc}", "os", "libc")
    elif name and name.lower() in ("ubuntu", "centos", "redhat"):
        operating_system(facts, f"{'red hat' if name.lower() == 'redhat' else name} {version}")


def operating_system(facts: Facts, text: str) -> None:
    """Record an operating system from its name in prose ("Ubuntu 22.04.4 LTS (x86_64)")."""
    text = text.strip()[:200]
    lower = text.lower()
    machine = re.search(r"\((x86_64|aarch64|arm64|ppc64le)\)\s*\Z", text)
    if machine:
        arch(facts, machine.group(1))
    numbers = re.search(r"\d+(?:\.\d+)*", text)
    if "windows" in lower:
        put(facts, "windows", "host", "platform")
        name, count = "windows", 1
    elif lower.startswith(("macos", "mac osx", "mac os")):
        put(facts, "darwin", "host", "platform")
        name, count = "macos", 2
    else:
        name, count = next(
            ((identity, count) for prose, identity, count in OS_NAMES if prose in lower), ("", 0)
        )
    if not name:
        return
    put(facts, name, "os", "id")
    if numbers and count:
        put(facts, ".".join(numbers.group().split(".")[:count]), "os", "version")


def libc(facts: Facts, text: str) -> None:
    """Record a C library ("glibc-2.35", "glibc 2.35")."""
    found = re.match(r"\s*(glibc|musl)[- ]?(\d+\.\d+(?:\.\d+)?)", text)
    if found:
        put(facts, f"{found.group(1)} {found.group(2)}", "os", "libc")


def gpu(facts: Facts, name: str | None, count: int | None = None, **more: Any) -> None:
    """Record GPUs of one kind; a count that the report does not give stays unknown."""
    name = known(name) if name is not None else None
    if name is not None:
        name = re.sub(r"\s*\(UUID:.*", "", name).strip()
    given = {"name": name, **more}
    kinds = facts.setdefault("gpu", [])
    same = next((kind for kind in kinds if all(kind.get(key) == value for key, value in given.items())), None)
    if same is None:
        same = {key: value for key, value in given.items() if value not in (None, "")}
        if not same:
            return
        kinds.append(same)
        if count:
            same["count"] = count
    elif count:
        same["count"] = same.get("count", 0) + count


def gpu_line(facts: Facts, line: str) -> bool:
    """Record "GPU 0: NVIDIA A100" or "GPU 0,1,2,3: NVIDIA A100"; tells whether the line is one."""
    found = _GPU.match(line.strip())
    if not found or found.group(2).startswith(("Compute Cap", "CPU")):
        return False
    gpu(facts, found.group(2), found.group(1).strip(",").count(",") + 1)
    return True


def libraries(facts: Facts, paths: list[str]) -> None:
    """Record cuDNN's files: one copy a folder and version, since its sublibraries belong to the main one."""
    copies: dict[tuple[str, str], Facts] = {}
    for path in paths:
        found, dll = _FILE.match(path), _DLL.match(path)
        if found and found.group(1).startswith("cudnn") and found.group(2):
            version, stem = found.group(2), found.group(1)
            soname = f"libcudnn.so.{version.split('.')[0]}"
        elif dll:
            version, stem, soname = dll.group(2), dll.group(1).lower(), f"cudnn64_{dll.group(2)}.dll"
        else:
            continue
        key = (re.split(r"[/\\][^/\\]*\Z", path)[0], version)
        if key not in copies or stem == "cudnn":
            copies[key] = {"name": "cudnn", "version": version, "soname": soname, "path": path}
    for (folder, version), entry in copies.items():
        # libcudnn.so.8 beside libcudnn.so.8.9.7 is a link to it.
        if not any(at == folder and full.startswith(version + ".") for at, full in copies):
            facts.setdefault("library", []).append(entry)


def cuda_number(text: str) -> str | None:
    """Read CUDA's version where it is one number: "118" and "1108" are 11.8, "12040" is 12.4."""
    text = text.strip()
    if re.fullmatch(r"\d{3}", text):
        return f"{text[:2]}.{text[2]}"
    if re.fullmatch(r"\d{4}", text):
        return f"{int(text) // 100}.{int(text) % 100}"
    if re.fullmatch(r"\d{5}", text):
        return f"{int(text) // 1000}.{int(text) % 1000 // 10}"
    return None


def cudnn_number(text: str) -> str | None:
    """Read cuDNN's version where it is one number: 8907 is 8.9.7, 90100 is 9.1.0."""
    if re.fullmatch(r"[1-8]\d{3}", text):
        return f"{text[0]}.{int(text[1])}.{int(text[2:])}"
    if re.fullmatch(r"\d{5,6}", text):
        number = int(text)
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    return None


def architectures(facts: Facts, name: str, text: str) -> None:
    """Record GPU code that a framework was built with: "8.0;9.0+PTX", "sm_80, sm_90", "compute_90"."""
    archs: list[str] = []
    ptx: list[str] = []
    for word in re.split(r"[\s,;]+", text[:2000]):
        number = re.fullmatch(r"(\d{1,2})\.(\d)([af]?)(\+PTX)?", word)
        if number:
            code = number.group(1) + number.group(2) + number.group(3)
            archs.append(f"sm_{code}")
            if number.group(4):
                ptx.append(f"compute_{code}")
        elif re.fullmatch(r"sm_\d{2,3}[af]?", word):
            archs.append(word)
        elif re.fullmatch(r"compute_\d{2,3}[af]?", word):
            ptx.append(word)
    if archs:
        put(facts, sorted(set(archs), key=_by_number), "framework", name, "archs")
    if ptx:
        put(facts, sorted(set(ptx), key=_by_number), "framework", name, "ptx")


def cpu_level(flags: str) -> str | None:
    """Return the psABI level that a CPU's flags reach (x86-64 supplement of the System V ABI)."""
    have = set(flags.split())
    level = None
    for name, needs in (
        ("x86-64-v2", "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"),
        ("x86-64-v3", "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"),
        ("x86-64-v4", "avx512f avx512bw avx512cd avx512dq avx512vl"),
    ):
        if not have.issuperset(needs.split()):
            break
        level = name
    return level


def _by_number(code: str) -> tuple[int, str]:
    digits = re.sub(r"\D", "", code)
    return int(digits), code
