"""Rules about the operating system and the CPU under it: C libraries, system libraries, instructions, platforms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from envlock.manifest.versions import dotted, matches, release
from envlock.rules.engine import rule
from envlock.rules.framework import is_release, version_trial
from envlock.rules.model import Evidence, Finding, Fix, Unknown
from envlock.rules.stack import FEW

if TYPE_CHECKING:
    from envlock.manifest.model import Library, PipPackage
    from envlock.matrix.loader import Matrix
    from envlock.rules.model import Severity
    from envlock.rules.stack import Stack

Outcome = Iterator["Finding | Unknown"]

_GPU_LIBRARY = re.compile(
    r"lib(?:cuda(?:rt|nn)?|cublas(?:Lt)?|cufft|curand|cusolver|cusparse(?:Lt)?|cupti|nvrtc|nvJitLink|nccl"
    r"|nvToolsExt|nvidia-ml|nvshmem\w*)\b"
)
"""Libraries that the driver's and CUDA's rules speak of."""


class CLibrary(NamedTuple):
    """A version of a C or C++ library, and the fact that says so."""

    version: str
    address: str
    value: Any
    where: str


def _label(name: str, version: str | None) -> str:
    return f"{name} {version}" if version else name


def distribution_row(stack: Stack, matrix: Matrix) -> Any:
    """Return what the matrix knows of this release of a distribution; None where it has no row."""
    os = stack.manifest.os
    if not os.version:
        return None
    have = release(os.version)
    for row in matrix.rows("os", "release"):
        wanted = release(row["version"])
        if row["id"] == os.id and wanted == have[: len(wanted)]:
            return row
    return None


def glibc(stack: Stack, matrix: Matrix) -> CLibrary | None:
    """Return the system's glibc: as it was seen, else as its distribution's release has it."""
    os = stack.manifest.os
    if os.libc:
        found = re.fullmatch(r"(?:g(?:nu )?libc[\s-]*)?(\d+(?:\.\d+)+)\S*", os.libc, re.I)
        return CLibrary(found[1], "os.libc", os.libc, "this system") if found else None
    row = distribution_row(stack, matrix)
    return CLibrary(row["glibc"], "os.version", os.version, f"{os.id} {os.version}") if row else None


@rule("libc-too-old", layer="os", needs=("os.libc", "framework.*.needs"))
def libc_too_old(stack: Stack, matrix: Matrix) -> Outcome:
    """A binary needs newer symbols than the system's C library has.

    Shows itself as "/lib64/libc.so.6: version `GLIBC_2.32' not found", or as pip that takes an old release or
    builds from source because no wheel fits.

    Fix: a newer distribution (or a container of one), or a wheel that was built for an older glibc.

    Source: ELF symbol versions (DT_VERNEED); PEP 600, manylinux tags.
    """
    have = glibc(stack, matrix)
    if have is None:
        return
    needs = []
    for name, framework in stack.frameworks.items():
        wanted = re.search(r"(\d+(?:\.\d+)+)", framework.needs.get("libc", ""))
        if wanted:
            label = _label(name, framework.version)
            needs.append((release(wanted[1]), label, f"framework.{name}.needs", dict(framework.needs)))
    needs += _listed_needs(stack, matrix)
    wanting = sorted(need for need in needs if need[0] > release(have.version))
    if not wanting:
        if not needs:
            yield from _old_glibc(stack, have)
        return
    highest, label, address, value = wanting[-1]
    others = [name for _, name, _, _ in wanting[:-1]]
    also = f"; so {'do' if others[1:] else 'does'} {' and '.join(others)}" if others else ""
    text = dotted(highest)
    yield Finding(
        subject="os.libc" if have.address == "os.libc" else "os.version",
        message=f"{label} needs glibc {text}, and {have.where} has {have.version}{also}",
        evidence=(
            Evidence(have.address, have.value),
            Evidence(address, value),
            *(Evidence(other[2], other[3]) for other in wanting[:-1]),
        ),
        fixes=(
            Fix("os.libc", f">={text}", f"use a distribution with glibc {text} or newer", {"os.libc": f"glibc {text}"}),
        ),
        source="ELF symbol versions of the binaries; PEP 600",
    )  # fmt: skip


def _old_glibc(stack: Stack, have: CLibrary) -> Outcome:
    """Point a thin report to a glibc that is older than what wheels of today are tagged with."""
    if not stack.partial or not 0 < len(stack.packages) <= FEW or release(have.version) >= (2, 27):
        return
    yield Finding(
        subject=have.address,
        message=f"{have.where} has glibc {have.version}, and what its packages need of it is not known: wheels tagged "
        "manylinux_2_28 and programs made on newer systems do not run on it",
        evidence=(Evidence(have.address, have.value),),
        source="PEP 600; Farama-Foundation/Arcade-Learning-Environment#478",
        severity="note",
        breaks=False,
        rank=5,
    )


def _listed_needs(stack: Stack, matrix: Matrix) -> list[tuple[tuple[int, ...], str, str, Any]]:
    """Return what PyPI's torch needs by its platform tag, where its binaries were not read."""
    torch, framework = stack.pip("torch"), stack.framework("torch")
    if torch is None or not torch.version or (framework and framework.needs.get("libc")):
        return []
    if not is_release(torch.version) or torch.source or stack.manifest.host.arch not in (None, "x86_64"):
        return []
    if stack.conda("pytorch") or stack.manifest.host.platform not in (None, "linux", "wsl2"):
        return []
    numbers = release(torch.version)
    rows = (row for row in matrix.rows("torch", "release") if release(row["version"]) == numbers)
    row = next(rows, None)
    if row is None or not row.get("glibc"):
        return []
    return [(release(row["glibc"]), f"torch {torch.version}", "package.pip.torch", torch.version)]


@rule("libstdcxx-too-old", layer="os", needs=("os.libstdcxx|library.libstdcxx", "framework.*.needs"))
def libstdcxx_too_old(stack: Stack, matrix: Matrix) -> Outcome:
    """A binary needs newer symbols than the libstdc++ that is loaded has.

    Shows itself as "libstdc++.so.6: version `GLIBCXX_3.4.29' not found". Often an old copy of a conda
    environment, or one on LD_LIBRARY_PATH, wins over the system's newer one (or the reverse).

    Fix: a newer libstdc++ in the place that wins (conda install -c conda-forge libstdcxx-ng), or take that
    folder off the search path.

    Source: GCC, libstdc++ ABI policy and guidelines, symbol versions by release.
    """
    for name, framework in stack.frameworks.items():
        wanted = framework.needs.get("libstdcxx", "")
        label = _label(name, framework.version)
        copies = _loaded(name, stack, matrix)
        older = [copy for copy in copies if _symbol_older(copy.version, wanted)]
        # Where it is not known which copy is loaded, only what holds for all of them is said.
        if not wanted or not copies or len(older) < len(copies):
            continue
        copy = older[0]
        path = stack.environ.get("LD_LIBRARY_PATH")
        yield Finding(
            subject=copy.address,
            message=f"{label} needs {wanted}, and {copy.where} has {copy.version} at most",
            evidence=(
                Evidence(copy.address, copy.value),
                Evidence(f"framework.{name}.needs", dict(framework.needs)),
                *([Evidence("environ.LD_LIBRARY_PATH", path)] if path else []),
            ),
            fixes=_newer_libstdcxx(copy, wanted, stack),
            source="GCC, libstdc++ ABI policy and guidelines",
        )


def _loaded(framework: str, stack: Stack, matrix: Matrix) -> list[CLibrary]:
    """Return the libstdc++ that a framework loads, or every one that it may load."""

    def described(copy: Library) -> CLibrary:
        return CLibrary(copy.version or "", "library.libstdcxx", copy.version, copy.path or "its libstdc++")

    copies = [copy for copy in stack.libraries("libstdcxx") if copy.version]
    effective = [described(copy) for copy in copies if framework in copy.used_by]
    if effective:
        return effective
    found = [described(copy) for copy in copies]
    system, row = stack.manifest.os.libstdcxx, distribution_row(stack, matrix)
    if system:
        found.append(CLibrary(system, "os.libstdcxx", system, "the system's libstdc++"))
    elif not found and row and "libstdcxx" in row:
        os = stack.manifest.os
        found.append(CLibrary(row["libstdcxx"], "os.version", os.version, f"{os.id} {os.version}"))
    return found


def _symbol_older(have: str, wanted: str) -> bool:
    """Tell whether a symbol version is below another: GLIBCXX_3.4.28 < GLIBCXX_3.4.30; None of other kinds."""
    one, two = (re.fullmatch(r"(?:([A-Z]+)_)?(\d+(?:\.\d+)+)", text.strip()) for text in (have, wanted))
    if not one or not two:
        return False
    return (one[1] or "GLIBCXX") == (two[1] or "GLIBCXX") and release(one[2]) < release(two[2])


def _newer_libstdcxx(copy: CLibrary, wanted: str, stack: Stack) -> tuple[Fix, ...]:
    trial: dict[str, Any]
    if copy.address == "library.libstdcxx":
        from envlock.rules.cuda import to_plain_copy

        plain = [to_plain_copy(each) for each in stack.libraries("libstdcxx")]
        trial = {
            "library.libstdcxx": [
                {**each, "version": wanted} if each.get("version") == copy.version else each for each in plain
            ]
        }
    else:
        trial = {"os.libstdcxx": wanted}
    conda = "/envs/" in copy.where or "conda" in copy.where
    how = "conda install -c conda-forge libstdcxx-ng" if conda else "install a newer libstdc++ (gcc runtime)"
    return (Fix(copy.address, f">={wanted}", how, trial),)


@rule("system-library-missing", layer="os")
def system_library_missing(stack: Stack, matrix: Matrix) -> Outcome:
    """A binary needs a system library that is not there.

    Shows itself as "ImportError: libGL.so.1: cannot open shared object file", or "[WinError 126] The specified
    module could not be found". Slim images and servers lack what desktops have.

    Fix: install the package that carries the library, or a variant of the package without the need
    (opencv-python-headless).

    Source: ELF headers (DT_NEEDED); contents of the distributions' packages.
    """
    rows = {row["soname"]: row for row in matrix.rows("system_libraries", "library")}
    for name, framework in stack.frameworks.items():
        listed = [each.strip() for each in framework.needs.get("library", "").split(",")]
        missing = [each for each in listed if each and not _GPU_LIBRARY.match(each)]
        if not missing:
            continue
        row = next((rows[each] for each in missing if each in rows), None)
        carriers = [_carried_by(rows.get(each), stack) for each in missing]
        named = ", ".join(each + carrier for each, carrier in zip(missing, carriers, strict=True))
        left = [each for each in listed if each and each not in missing]
        others = {key: value for key, value in framework.needs.items() if key != "library"}
        yield Finding(
            subject=f"framework.{name}.needs",
            message=f"{name} needs {named}, and its search order does not find {'them' if missing[1:] else 'it'}",
            evidence=(Evidence(f"framework.{name}.needs", dict(framework.needs)),),
            fixes=(
                Fix(
                    address=f"framework.{name}.needs",
                    to="found",
                    message="; ".join(
                        dict.fromkeys(_install(rows.get(each), each, stack) for each in missing[:4])
                    ),
                    trial={
                        f"framework.{name}.needs": {**others, "library": ", ".join(left)} if left else others
                    },
                ),
            ),
            source=row["source"] if row else "ELF headers (DT_NEEDED); ld.so(8)",
        )
    yield from _named_as_missing(stack, rows)
    yield from _desktop_library(stack, rows)


def _package(row: Any, stack: Stack) -> str | None:
    os = stack.manifest.os.id or ""
    kind = "rpm" if os in ("rhel", "centos", "rocky", "almalinux", "ol", "fedora", "amzn", "sles") else "deb"
    return row.get(kind) if row else None


def _carried_by(row: Any, stack: Stack) -> str:
    package = _package(row, stack)
    return f" (package {package})" if package else ""


def _install(row: Any, soname: str, stack: Stack) -> str:
    package = _package(row, stack)
    if row and row.get("fix"):
        return str(row["fix"])
    return f"install {package}" if package else f"install the package that carries {soname}"


def _named_as_missing(stack: Stack, rows: dict[str, Any]) -> Outcome:
    """Find libraries that were looked for by name and were not there."""
    for address, reason in stack.manifest.capture.unobserved.items():
        kind, _, own = address.partition(".")
        soname = next(
            (name for name in rows if name in reason or own in (name, re.split(r"\.(?:so|dll)", name)[0])),
            None,
        )
        if kind != "library" or soname is None:
            continue
        users = [
            name for name in rows[soname]["needed_by"] if name in stack.packages or name in stack.frameworks
        ]
        if users:
            yield Finding(
                subject=address,
                message=f"{users[0]} needs {soname}: {reason}",
                evidence=(
                    Evidence(address, reason),
                    *(Evidence(f"package.pip.{name}", None) for name in users),
                ),
                source=rows[soname]["source"],
                severity="warning",
            )


def _desktop_library(stack: Stack, rows: dict[str, Any]) -> Outcome:
    """Find OpenCV with windows on a Debian or Ubuntu without libGL, where the system's packages were listed."""
    system = stack.manifest.package.system
    if stack.partial or not system or stack.manifest.os.id not in ("debian", "ubuntu"):
        return
    if stack.unobserved("package.system") or any(name.startswith(("libgl1", "libglx")) for name in system):
        return
    row = rows.get("libGL.so.1")
    for name in ("opencv-python", "opencv-contrib-python"):
        pip = stack.pip(name)
        if pip is None or row is None or stack.libraries("libGL") or name in stack.frameworks:
            continue  # whose files were read is judged by them
        yield Finding(
            subject=f"package.pip.{name}",
            message=f"{_label(name, pip.version)} needs libGL.so.1, and libgl1 is not installed",
            evidence=(Evidence(f"package.pip.{name}", pip.version), Evidence("package.system.libgl1", None)),
            fixes=(
                Fix("package.system.libgl1", "installed", "apt-get install libgl1", {"package.system.libgl1": "1"}),
                Fix(
                    f"package.pip.{name}",
                    f"{name}-headless",
                    f"install {name}-headless in its place",
                    {f"package.pip.{name}": None, f"package.pip.{name}-headless": {"version": pip.version}},
                ),
            ),
            source=row["source"],
            severity="warning",
        )  # fmt: skip


@rule("cpu-feature-missing", layer="os", needs=("host.cpu_level|host.cpu",))
def cpu_feature_missing(stack: Stack, matrix: Matrix) -> Outcome:
    """A build needs CPU instructions that this CPU lacks.

    Shows itself as "Illegal instruction (core dumped)" at import, or "The TensorFlow library was compiled to
    use AVX instructions, but these aren't available on your machine". Old servers, small CPUs and virtual
    machines that mask flags are affected, and x86-64 programs under Rosetta.

    Fix: a build for older CPUs where there is one, a build from source, or a machine with these instructions;
    in a virtual machine pass the host's CPU model through.

    Source: x86-64 psABI, microarchitecture levels; the packages' build options.
    """
    host = stack.manifest.host
    have = _level(host.cpu_level)
    if have is None and not host.cpu:
        return
    subject = "host.cpu_level" if have is not None else "host.cpu"
    family = _family(host.cpu, matrix) if host.cpu else None
    told: set[str] = set()
    for row in matrix.rows("os", "cpu"):
        held = stack.version_of(row["package"])
        wanted = _level(row["level"])
        if held is None or wanted is None or row["package"] in told:
            continue
        if not _lacks(have, wanted, row["feature"], family["lacks"] if family else None):
            continue
        if row["affected"] and held.version and matches(held.version, row["affected"]) is False:
            continue
        if not held.version and row["affected"].startswith("=="):
            # One release says nothing of a version that is not known.
            continue
        told.add(row["package"])
        unsure = bool(row["affected"]) and not held.version
        level = f" ({host.cpu_level})" if host.cpu_level else ""
        cpu = " ".join((host.cpu or "this CPU").split()) + level
        severity: Severity = row.get("severity", "warning" if unsure else "error")
        yield Finding(
            subject=subject,
            message=f"{_label(row['package'], held.version)} needs {row['feature']}, which {cpu} lacks"
            + (f": use {row['fix']}" if row.get("fix") else ""),
            evidence=(
                *([Evidence("host.cpu_level", host.cpu_level)] if host.cpu_level else []),
                *([Evidence("host.cpu", host.cpu)] if host.cpu else []),
                Evidence(held.address, held.version),
            ),
            fixes=(
                Fix("host.cpu_level", row["level"], f"run it on a CPU with {row['feature']}",
                    {"host.cpu_level": row["level"], "host.cpu": None}),
            ),
            source=row["source"],
            severity=severity,
        )  # fmt: skip
    if have is not None:
        yield from _distribution_level(stack, matrix, have)
    known = {row["package"] for row in matrix.rows("os", "cpu")}
    if not told and stack.partial and 0 < len(stack.packages.keys() - known) <= FEW:
        yield from _old_cpu(stack, have, family["lacks"] if family else None)


def _old_cpu(stack: Stack, have: int | None, family: str | None) -> Outcome:
    """Point to a CPU without AVX2, where no row says what a package needs of one."""
    if not (have < 3 if have is not None else family):
        return
    host = stack.manifest.host
    cpu = f"{host.cpu or 'this CPU'}" + (f" ({host.cpu_level})" if host.cpu_level else "")
    yield Finding(
        subject="host.cpu_level" if have is not None else "host.cpu",
        message=f"{cpu} lacks {'AVX' if family == 'AVX' else 'AVX2'}, which many builds of today take for granted: one that "
        'does stops with "Illegal instruction"',
        evidence=(
            *([Evidence("host.cpu_level", host.cpu_level)] if host.cpu_level else []),
            *([Evidence("host.cpu", host.cpu)] if host.cpu else []),
        ),
        source="x86-64 psABI, microarchitecture levels; zarr-developers/numcodecs#252, nmandery/h3ronpy#39",
        severity="note",
        breaks=False,
        rank=5,
    )


def _lacks(have: int | None, wanted: int, feature: str, family: str | None) -> bool:
    """Tell whether a CPU surely lacks a feature: by its level, or by the family that its name gives away.

    Level 3 is where AVX and AVX2 are certain: above it a name has nothing to add.
    """
    if have is not None and (have < wanted or have >= 3):
        return have < wanted
    newer = {"AVX": ("AVX",), "AVX2": ("AVX2", "AVX-512")}.get(family or "", ())
    return any(each in feature for each in newer)


def _family(cpu: str, matrix: Matrix) -> Any:
    """Return the row of the family that a CPU's name belongs to; None where none is known to lack anything."""
    return next(
        (row for row in matrix.rows("os", "cpu-family") if re.search(row["pattern"], cpu, re.I)), None
    )


def _level(text: str | None) -> int | None:
    found = re.fullmatch(r"x86-64(?:-v([1-4]))?", text or "")
    return int(found[1] or 1) if found else None


def _distribution_level(stack: Stack, matrix: Matrix, have: int) -> Outcome:
    row = distribution_row(stack, matrix)
    wanted = _level(row.get("cpu_level")) if row else None
    if row is None or wanted is None or have >= wanted:
        return
    os, host = stack.manifest.os, stack.manifest.host
    yield Finding(
        subject="host.cpu_level",
        message=f"{os.id} {os.version} is built for {row['cpu_level']}, and this CPU is {host.cpu_level}: its programs "
        "stop with \"CPU does not support\"",
        evidence=(Evidence("host.cpu_level", host.cpu_level), Evidence("os.version", os.version)),
        source=row["source"],
    )  # fmt: skip


_SUBDIRS = {"linux-64": ("x86_64", "linux"), "linux-aarch64": ("aarch64", "linux"), "linux-ppc64le": ("ppc64le", "linux"),
            "osx-64": ("x86_64", "darwin"), "osx-arm64": ("arm64", "darwin"), "win-64": ("x86_64", "windows"),
            "win-arm64": ("arm64", "windows")}  # fmt: skip
_ARCHES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}

_PIP_FLOORS = ((19, 3), (20, 3))
"""pip learned manylinux2014 in 19.3 and PEP 600's tags (manylinux_2_28) in 20.3."""


@rule("wheel-platform-mismatch", layer="os")
def wheel_platform_mismatch(stack: Stack, matrix: Matrix) -> Outcome:
    """A wheel or conda package is for another interpreter, architecture or C library than this one.

    Shows itself as "is not a supported wheel on this platform", "No matching distribution found", "cannot open
    shared object file" for a file that is there, or as a source build that nobody asked for: an old pip does
    not know the newer platform tags.

    Fix: the package for this platform; on Alpine a glibc image; a newer pip.

    Source: PyPA specifications, platform compatibility tags; PEP 513, 571, 599, 600 and 656.
    """
    yield from _foreign_conda(stack)
    yield from _on_musl(stack, matrix)
    yield from _foreign_abi(stack)
    yield from _linux_only(stack, matrix)
    yield from _before_this_python(stack, matrix)
    yield from _old_pip(stack)
    yield from _rare_arch(stack)


def _rare_arch(stack: Stack) -> Outcome:
    """Point a thin report to an architecture of Linux that fewer projects have wheels for."""
    host = stack.manifest.host
    if (
        not stack.partial
        or len(stack.packages) > FEW
        or host.platform not in (None, "linux", "wsl2", "tegra")
    ):
        return
    if not host.arch or not re.match(r"aarch64|arm|ppc64|s390x|riscv|loongarch|i[3-6]86", host.arch):
        return
    yield Finding(
        subject="host.arch",
        message=f"fewer projects have wheels for {host.arch} than for x86_64: pip finds no distribution of the others, or "
        "builds them from source",
        evidence=(Evidence("host.arch", host.arch),),
        source="PEP 599, the architectures of manylinux2014; basler/pypylon#334, sclorg/s2i-python-container#361",
        severity="note",
        breaks=False,
        rank=7,
    )


def _foreign_conda(stack: Stack) -> Outcome:
    host = stack.manifest.host
    arch = _ARCHES.get((host.arch or "").lower(), host.arch)
    if not arch:
        return
    platform = {"wsl2": "linux", "tegra": "linux"}.get(host.platform or "", host.platform)
    for name, package in stack.manifest.package.conda.items():
        wanted = _SUBDIRS.get(package.subdir or "")
        if wanted is None:
            continue
        theirs = _ARCHES.get(wanted[0], wanted[0])
        if theirs == arch and platform in (None, wanted[1]):
            continue
        emulated = wanted == ("x86_64", "darwin") and platform == "darwin"
        yield Finding(
            subject=f"package.conda.{name}",
            message=f"{name} is of {package.subdir}, and this machine is {_label(host.platform or '', host.arch).strip()}"
            + (": it runs under Rosetta, without newer instructions" if emulated else ""),
            evidence=(
                Evidence(f"package.conda.{name}", package.subdir),
                Evidence("host.arch", host.arch),
                *([Evidence("host.platform", host.platform)] if host.platform else []),
            ),
            source="conda documentation, subdirs",
            severity="note" if emulated else "error",
        )  # fmt: skip
        return


def _on_musl(stack: Stack, matrix: Matrix) -> Outcome:
    libc = stack.manifest.os.libc or ""
    alpine = stack.manifest.os.id == "alpine"
    if not (libc.startswith("musl") or (alpine and not libc)):
        return
    address, value = ("os.libc", libc) if libc else ("os.id", "alpine")
    for row in matrix.rows("os", "wheels"):
        name, pip = row["package"], stack.pip(row["package"])
        if pip is None or "musl" not in row["lacks"] or not _from_pypi(pip, stack):
            continue
        yield Finding(
            subject=address,
            message=f"{_label(name, pip.version)} has wheels for glibc only, and this system has {libc or 'musl'}",
            evidence=(Evidence(address, value), Evidence(f"package.pip.{name}", pip.version)),
            fixes=(
                Fix(address, "glibc", "use an image with glibc (Debian, Ubuntu)", {address: "glibc 2.36" if libc else "debian"}),
            ),
            source=f"PEP 656; {row['source']}",
        )  # fmt: skip
        return


def _linux_only(stack: Stack, matrix: Matrix) -> Outcome:
    platform = stack.manifest.host.platform
    if platform not in ("windows", "darwin"):
        return
    for row in matrix.rows("os", "wheels"):
        name, pip = row["package"], stack.pip(row["package"])
        if pip is None or platform not in row["lacks"] or not _from_pypi(pip, stack):
            continue
        yield Finding(
            subject=f"package.pip.{name}",
            message=f"{_label(name, pip.version)} has no wheels for {platform}: what is installed was built here or is for "
            "another platform",
            evidence=(Evidence(f"package.pip.{name}", pip.version), Evidence("host.platform", platform)),
            source=row["source"],
            severity="warning",
            rank=1,
        )


def _before_this_python(stack: Stack, matrix: Matrix) -> Outcome:
    """Find a release that had no wheels for this Python yet: a report tells of it before it is installed."""
    python = stack.manifest.python
    if not stack.partial or python.implementation not in (None, "CPython"):
        return
    for row in matrix.rows("python", "wheels"):
        name, pip = row["package"], stack.pip(row["package"])
        if pip is None or pip.source or release(python.version)[:2] != release(row["version"]):
            continue
        if matches(pip.version, f"<{row['first']}") is not True:
            continue
        yield Finding(
            subject=f"package.pip.{name}",
            message=f"{name} {pip.version} has no wheel for Python {row['version']}, {row['first']} is the first that has: pip "
            "builds it from source, which may fail",
            evidence=(Evidence(f"package.pip.{name}", pip.version), Evidence("python.version", python.version)),
            fixes=(
                Fix(f"package.pip.{name}", f">={row['first']}", f"install {name}>={row['first']}",
                    {f"package.pip.{name}.version": row["first"]}),
            ),
            source=row["source"],
            severity="note",
            rank=1,
        )  # fmt: skip


def _from_pypi(pip: PipPackage, stack: Stack) -> bool:
    """Tell whether PyPI's files are what may be installed: not a build from a path, nor the distribution's own."""
    return not pip.source and (stack.partial or pip.installer not in (None, ""))


def _foreign_abi(stack: Stack) -> Outcome:
    """Find an interpreter whose ABI tag does not belong to its version."""
    python = stack.manifest.python
    tag = re.match(r"cp(\d)(\d{1,2})", python.abi or "")
    have = release(python.version)
    if tag and len(have) >= 2 and (int(tag[1]), int(tag[2])) != have[:2]:
        yield Finding(
            subject="python.abi",
            message=f"wheels for {python.abi} are installed, and this is Python {python.version}",
            evidence=(Evidence("python.abi", python.abi), Evidence("python.version", python.version)),
            source="PyPA specifications, platform compatibility tags",
        )


def _old_pip(stack: Stack) -> Outcome:
    pip = stack.package("pip")
    numbers = release(pip.version) if pip else ()
    if (
        pip is None
        or not numbers
        or numbers >= _PIP_FLOORS[1]
        or stack.manifest.host.platform in ("windows", "darwin")
    ):
        return
    if release(stack.manifest.python.version)[:1] == (2,):
        return
    oldest = numbers < _PIP_FLOORS[0]
    tags = "manylinux2014 and newer" if oldest else "manylinux_2_17 and newer"
    yield Finding(
        subject=pip.address,
        message=f"pip {pip.version} does not know the platform tags {tags}: it takes old releases or builds from source",
        evidence=(Evidence(pip.address, pip.version),),
        fixes=(Fix(pip.address, ">=20.3", "python -m pip install --upgrade pip", version_trial("pip", "23.3", stack)),),
        source="pip changelog, 19.3 and 20.3; PEP 599, PEP 600",
        severity="warning" if oldest else "note",
        rank=1 if oldest else 6,
    )  # fmt: skip
