"""What a lock file of another tool says, in one shape: packages, where they come from, and for which target."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from envlock.errors import EnvlockError
from envlock.manifest.model import Manifest
from envlock.manifest.read import ManifestError, line_of, parse_toml, printable

SIZE_LIMIT = 32 * 1024 * 1024
"""Bytes of a lock file at most, all the files that it includes counted together."""
DEPTH_LIMIT = 50
"""How deep lists and tables of a YAML file may lie in each other."""

Manager = Literal["pip", "conda"]


class LockFileError(EnvlockError):
    """A lock file that cannot be read or does not speak of this target; names the file and the place."""


class Locked(NamedTuple):
    """One package that a lock asks for."""

    manager: Manager
    name: str
    """Normalised (PEP 503) for pip; as conda spells it for conda."""
    version: str | None = None
    """The exact version; None where the lock leaves it open."""
    bounds: str = ""
    """A specifier in the manager's own language that the version must satisfy."""
    build: str | None = None
    subdir: str | None = None
    channel: str | None = None
    """Short: "conda-forge"; None where the lock does not say."""
    source: str = ""
    """As a manifest spells it: ``git+https://...@commit``, a URL, a path; "" for an index."""
    editable: bool = False
    from_index: bool = False
    """True where the lock says that it comes from an index, so that a direct URL is another origin."""
    index_too: bool = False
    """True where the source is a file's address that an index may have handed out, which no installer records."""
    hashes: tuple[str, ...] = ()
    """Of the archives that may be installed: ``sha256:...``."""
    extras: tuple[str, ...] = ()
    optional: bool = False
    """True where it may be left out: a default group that nobody asked for, a constraint."""


class Choice(NamedTuple):
    """The extras and groups that were asked for, as the lock's tool names them."""

    extras: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()


class Target(NamedTuple):
    """What decides which entries of a lock count: the marker variables that are known, and conda's platform."""

    markers: Mapping[str, str]
    subdir: str | None


class Selection(NamedTuple):
    """What a lock asks for on one target."""

    packages: tuple[Locked, ...]
    requires_python: str = ""
    unknown: tuple[str, ...] = ()
    """What could not be decided, a sentence each."""


class LockFile(NamedTuple):
    """A lock file that has been read; ``select`` may raise LockFileError for a target that it does not hold."""

    select: Callable[[Target, Choice], Selection]
    closed: frozenset[Manager]
    """The managers whose packages it lists completely: one beyond them is drift."""
    speaks_of: frozenset[Manager]
    extras: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    default_groups: frozenset[str] = frozenset()
    """Groups that the tool installs unless it is told otherwise."""
    strict_origin: bool = True
    """False where the tool is content with a version from anywhere (requirements files)."""
    remedy: str = ""
    """The command that brings an environment to the lock."""


# ---- reading ------------------------------------------------------------------------------------------------


def read_text(path: str, limit: int = SIZE_LIMIT) -> str:
    """Return a lock file's text, bounded; raises LockFileError."""
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise LockFileError(f"cannot read {path}: {reason}") from None
    if len(content) > limit:
        raise LockFileError(f"{path}: larger than {SIZE_LIMIT // 2**20} MiB, which no lock file is")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise LockFileError(f"{path}:{line}: not UTF-8 text (byte {error.start})") from None


def load_toml(text: str, path: str) -> dict[str, Any]:
    """Parse TOML; raises LockFileError with the line."""
    try:
        return parse_toml(text, path)
    except ManifestError as error:
        raise LockFileError(str(error)) from None


def load_yaml(text: str, path: str, *, typed: bool = False) -> Any:
    """Parse YAML without tags, anchors and deep nesting, every scalar as text unless ``typed``.

    As text "1.10" stays a version. An alias can make a small file unfold into gigabytes, and no lock tool
    writes one; deep nesting would exhaust the C parser's stack. Raises LockFileError with the line.
    """
    try:
        import yaml
    except ImportError:
        raise LockFileError(
            f"{path}: reading YAML needs PyYAML: pip install 'envlock-stack[conda]'"
        ) from None
    safe = (
        getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        if typed
        else getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    )
    try:
        _check_events(yaml, text, path)
        return yaml.load(text, Loader=safe)  # noqa: S506 - safe and base loaders only
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}" if mark else path
        raise LockFileError(printable(f"{place}: not YAML: {error.problem or error.context}")) from None
    except yaml.YAMLError as error:
        raise LockFileError(printable(f"{path}: not YAML: {str(error).splitlines()[0]}")) from None
    except (ValueError, OverflowError, RecursionError) as error:
        raise LockFileError(printable(f"{path}: not YAML that can be read: {str(error)[:200]}")) from None


def _check_events(yaml: Any, text: str, path: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise LockFileError(f"{path}:{event.start_mark.line + 1}: YAML aliases are not read")
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
            if depth > DEPTH_LIMIT:
                raise LockFileError(f"{path}:{event.start_mark.line + 1}: lists and tables nested too deeply")
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1


class Shape:
    """Takes typed values out of parsed TOML or YAML; every error names the file and the key."""

    def __init__(self, path: str, text: str = "") -> None:
        self.path = path
        self._text = text

    def table(self, value: Any, place: str) -> dict[str, Any]:
        """Return a table; nothing counts as an empty one."""
        found: dict[str, Any] = self._is({} if value is None else value, dict, place, "a table")
        return found

    def tables(self, value: Any, place: str) -> list[dict[str, Any]]:
        """Return a list of tables."""
        entries = self.list(value, place)
        return [self.table(entry, f"{place}[{index}]") for index, entry in enumerate(entries)]

    def list(self, value: Any, place: str) -> list[Any]:
        """Return a list; nothing counts as an empty one."""
        found: list[Any] = self._is([] if value is None else value, list, place, "a list")
        return found

    def text(self, value: Any, place: str) -> str:
        """Return a text; nothing counts as an empty one."""
        found: str = self._is("" if value is None else value, str, place, "text")
        return found

    def fail(self, place: str, problem: str) -> LockFileError:
        """Return the error that says what is wrong where."""
        line = line_of(self._text, place.partition("[")[0]) if self._text else None
        where = f"{self.path}:{line}" if line else self.path
        return LockFileError(printable(f"{where}: {place}: {problem}"))

    def _is(self, value: Any, kind: type, place: str, wanted: str) -> Any:
        if not isinstance(value, kind):
            raise self.fail(place, f"expected {wanted}, got {type(value).__name__}")
        return value


# ---- names and URLs -----------------------------------------------------------------------------------------


def normalise(name: str) -> str:
    """Return a project name as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


_CONDA_FILE = re.compile(r"([^/\s]{1,200})-([^-/\s]{1,100})-([^-/\s]{1,150})(?:\.conda|\.tar\.bz2)\Z")


def conda_file(url: str) -> tuple[str, str, str, str, str] | None:
    """Return name, version, build, subdir and channel of a conda package's URL; None where it is none."""
    from envlock.probe.conda import short_channel

    plain = re.split(r"[?#]", url, maxsplit=1)[0]
    folder, _, file = plain.rpartition("/")
    found = _CONDA_FILE.match(file)
    if not found or not folder:
        return None
    return found[1], found[2], found[3], folder.rpartition("/")[2], short_channel(folder)


def archive_name(url: str) -> tuple[str, str] | None:
    """Return project and version of a wheel's or sdist's file name; None where it is neither."""
    from urllib.parse import unquote

    from packaging.utils import (
        InvalidSdistFilename,
        InvalidWheelFilename,
        parse_sdist_filename,
        parse_wheel_filename,
    )

    file = unquote(re.split(r"[?#]", url, maxsplit=1)[0].rpartition("/")[2])
    try:
        if file.endswith(".whl"):
            name, version, _, _ = parse_wheel_filename(file)
        else:
            name, version = parse_sdist_filename(file)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None
    return name, str(version)


def public_url(url: str) -> str:
    """Return a URL as a manifest spells it: without user, query and fragment."""
    from envlock.probe.redact import mask_url

    return mask_url(re.sub(r"(?<=://)(?!git@)[^/]*@", "", re.split(r"[?#]", url, maxsplit=1)[0]))


def local_path(path: str, lock: str) -> str:
    """Return a path that a lock names, relative to the lock's folder, as an absolute path."""
    from urllib.parse import unquote

    if path.startswith("file://"):
        path = unquote(path[len("file://") :])
    return os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(lock)), path))


def is_local(source: str) -> bool:
    """Tell whether a requirement's place is a path of this machine rather than an address."""
    return source.startswith("file:") or not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source)


# ---- the target ---------------------------------------------------------------------------------------------

_SYSTEMS = {"darwin": ("darwin", "Darwin", "posix"), "windows": ("win32", "Windows", "nt")}
_SUBDIR_ARCH = {"x86_64": "64", "aarch64": "aarch64", "ppc64le": "ppc64le", "arm64": "arm64", "i686": "32"}
_ARCH_OF_SUBDIR = {"linux-64": "x86_64", "linux-aarch64": "aarch64", "linux-ppc64le": "ppc64le",
                   "osx-64": "x86_64", "osx-arm64": "arm64", "win-64": "AMD64"}  # fmt: skip
_VARIABLE = re.compile(
    r"\b(implementation_name|implementation_version|os_name|platform_machine|platform_release|platform_system"
    r"|platform_version|python_full_version|platform_python_implementation|python_version|sys_platform)\b"
)


def target_of(manifest: Manifest) -> Target:
    """Return what a manifest says about the target; what it does not say is left out, not taken from here."""
    system = _SYSTEMS.get(manifest.host.platform or "linux", ("linux", "Linux", "posix"))
    subdir = next(
        (each.subdir for each in manifest.package.conda.values() if each.subdir not in (None, "noarch")), None
    )
    arch = manifest.host.arch or _ARCH_OF_SUBDIR.get(subdir or "")
    markers = {"sys_platform": system[0], "platform_system": system[1], "os_name": system[2]}
    if arch:
        markers["platform_machine"] = arch
        family = {"win32": "win", "darwin": "osx"}.get(system[0], "linux")
        subdir = subdir or f"{family}-{_SUBDIR_ARCH.get('x86_64' if arch == 'AMD64' else arch, arch)}"
    if manifest.host.kernel:
        markers["platform_release"] = manifest.host.kernel
    if manifest.python.version:
        version = manifest.python.version
        markers["python_full_version"] = version
        markers["python_version"] = ".".join(version.split(".")[:2])
        implementation = manifest.python.implementation or "CPython"
        markers["platform_python_implementation"] = implementation
        markers["implementation_name"] = implementation.lower()
        if implementation == "CPython":
            markers["implementation_version"] = version
    return Target(markers, subdir)


def holds(marker: str, target: Target, **more: Any) -> bool | None:
    """Tell whether a marker (PEP 508, PEP 751) holds on a target; None where a variable is not known.

    ``more`` are ``extra``, ``extras`` or ``dependency_groups``. Raises ValueError for what is no marker.
    """
    from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName

    if not marker:
        return True
    if not set(_VARIABLE.findall(marker)) <= target.markers.keys():
        return None
    environment: dict[str, Any] = {**target.markers, **more}
    try:
        parsed = Marker(marker[:5000])
        if "extras" in more:
            return parsed.evaluate(environment, context="lock_file")
        return parsed.evaluate({"extra": "", **environment})
    except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName, KeyError) as error:
        raise ValueError(str(error).splitlines()[0]) from None
    except RecursionError:
        raise ValueError("a marker nested too deeply") from None
