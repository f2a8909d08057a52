"""What conda, mamba, micromamba or pixi installed in a prefix: the records in its conda-meta folder.

A record is one JSON file a package (conda's PrefixRecord). With its list of files it may hold megabytes,
so that its few facts are picked out of its ends; only a record laid out otherwise is parsed as a whole.
"""

import json
import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from envlock.probe.observation import Observation
from envlock.probe.redact import mask_url
from envlock.probe.root import Root
from envlock.probe.target import Target

_RECORD_LIMIT = 256 * 1024 * 1024
_END = 32 * 1024
"""Bytes at a record's start and end in which its own keys are looked for."""
_CHUNK = 1024 * 1024
_NAME = r"(?a)[a-zA-Z0-9_][\w.-]{0,127}\Z"
_WORD = r"(?a)[\w.!+-]{1,200}\Z"
_TEXT = rb'"(channel|subdir|sha256)": "((?:[^"\\\n]|\\.){0,2000})"'
_METADATA = (b'.dist-info/METADATA"', b'.egg-info/PKG-INFO"', b'.egg-info"')
_HOST = r"(?i)[a-z][a-z0-9+.-]*://[^/]*"
_SUBDIRS = r"(?:noarch|(?:linux|osx|win|emscripten|wasi|zos|freebsd)-[\w]+)\Z"


class Record(NamedTuple):
    """One package that conda installed."""

    name: str
    version: str
    build: str
    channel: str
    """Short: "conda-forge", "pkgs/main", "nvidia/label/cuda-12.4.1"; never a token."""
    subdir: str
    sha256: str
    """Of the package file; "" in records that older tools wrote."""
    path: str
    """The record's own file."""
    metadata: Tuple[str, ...]
    """The dist-info and egg-info that belong to it, relative to the prefix."""


def read_conda(root: Root, target: Optional[Target], records: Optional[List[Record]] = None) -> Observation:
    """Observe ``package.conda`` of the target; nothing when it is no conda prefix.

    Without a target an active conda environment that holds no Python is read. ``records`` are those of the
    prefix where the caller has read them already.
    """
    seen = Observation()
    prefix = conda_prefix(root, target)
    if prefix is None:
        return seen
    broken: Dict[str, str] = {}
    if records is None:
        records, broken = read_records(root, prefix)
    _note(seen, ("package", "conda"), records, broken)
    return seen


def read_prefixes(root: Root, prefixes: List[str]) -> Observation:
    """Observe ``conda``: the packages of conda prefixes that lie beside the target, by prefix."""
    seen = Observation()
    for prefix in prefixes:
        _note(seen, ("conda", prefix), *read_records(root, prefix))
    return seen


def _note(seen: Observation, table: Tuple[str, str], records: List[Record], broken: Dict[str, str]) -> None:
    """Put records into a table, and the reasons of those that cannot be read to what was not observed."""
    if records:
        packages = seen.table(*table)
        for record in records:
            facts = record._asdict()
            kept = ("version", "build", "channel", "subdir", "sha256")
            packages[record.name] = {key: facts[key] for key in kept if facts[key]}
    for name, reason in broken.items():
        seen.unobserved[".".join([*table, name] if name else table)] = reason


def conda_prefix(root: Root, target: Optional[Target]) -> Optional[str]:
    """Return the conda prefix that belongs to the target, or None."""
    if target is not None:
        return target.prefix if target.kind == "conda" else None
    active = root.environ.get("CONDA_PREFIX", "").rstrip("/")
    return active if active.startswith("/") and root.is_dir(active + "/conda-meta") else None


def read_records(root: Root, prefix: str) -> Tuple[List[Record], Dict[str, str]]:
    """Return the records of a prefix by name, and the names whose record cannot be read, with the reason."""
    folder = prefix.rstrip("/") + "/conda-meta"
    try:
        entries = root.scan(folder)
    except FileNotFoundError:
        return [], {}
    except OSError as error:
        return [], {"": f"{folder} cannot be read: {error.strerror or error}"}
    records = []
    broken: Dict[str, str] = {}
    for entry in entries:
        if not entry.name.endswith(".json") or entry.name.startswith("."):
            continue
        path = f"{folder}/{entry.name}"
        try:
            records.append(_parse(root.read(path, _RECORD_LIMIT), path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            name = entry.name[:-5].rsplit("-", 2)[0]
            reason = error.strerror if isinstance(error, OSError) else "it is no conda-meta record"
            if re.match(_NAME, name):
                broken[name] = f"{path} cannot be read: {reason or error}"
    records.sort()
    return records, broken


def verify_conda_files(
    root: Root, target: Target, unread: Optional[Dict[str, str]] = None
) -> Dict[str, List[str]]:
    """Compare every file that conda installed with its recorded hash; name the modified and the missing.

    Links and ``.pyc`` files are only looked for, not hashed. Reads whole files. A file that cannot be read is
    no modified one: ``unread`` is given a reason for each package that has such.
    """
    wrong: Dict[str, List[str]] = {}
    prefix = conda_prefix(root, target)
    if prefix is None:
        return wrong
    for record in read_records(root, prefix)[0]:
        try:
            files = json.loads(root.read(record.path, _RECORD_LIMIT))["paths_data"]["paths"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        kept = []
        for file in files:
            try:
                path = _wrong_path(root, prefix, file) if isinstance(file, dict) else None
            except OSError as error:
                if unread is not None:
                    unread.setdefault(record.name, f"{prefix}/{file['_path']} cannot be compared: {error}")
                continue
            if path:
                kept.append(path)
        if kept:
            wrong[record.name] = sorted(kept)
    return wrong


def short_channel(channel: str) -> str:
    """Return a channel's name without host, token and platform: what ``-c`` takes for a known channel."""
    path = re.sub(_HOST, "", re.split(r"[?#]", channel, maxsplit=1)[0])
    parts = [part for part in path.split("/") if part]
    if parts and re.match(_SUBDIRS, parts[-1]):
        parts.pop()
    if len(parts) > 2 and parts[0] == "t":
        del parts[:2]
    for marker, before in (("label", 1), ("pkgs", 0)):
        if marker in parts[before:]:
            return mask_url("/".join(parts[parts.index(marker, before) - before :]))
    return mask_url(parts[-1]) if parts else ""


def _parse(content: bytes, path: str) -> Record:
    """Pick a record's facts; raises ValueError, KeyError, TypeError or AttributeError where it is none."""
    stem = path.rpartition("/")[2][: -len(".json")].rsplit("-", 2)
    facts = _at_the_ends(content) if len(stem) == 3 else None
    if facts is None:
        data = json.loads(content)
        facts = {key: str(data.get(key) or "") for key in ("channel", "subdir", "sha256")}
        stem = [str(data["name"]), str(data["version"]), str(data.get("build") or "")]
    if not re.match(_NAME, stem[0]) or not re.match(_WORD, stem[1]):
        raise ValueError("no package name and version")
    sha256 = facts.get("sha256", "")
    return Record(
        name=stem[0],
        version=stem[1],
        build=stem[2] if re.match(_WORD, stem[2]) else "",
        channel=short_channel(facts.get("channel", ""))[:200],
        subdir=facts["subdir"] if re.match(_WORD, facts.get("subdir", "")) else "",
        sha256=sha256 if re.match(r"[0-9a-f]{64}\Z", sha256) else "",
        path=path,
        metadata=_metadata(content),
    )


def _at_the_ends(content: bytes) -> Optional[Dict[str, str]]:
    """Return the top-level texts near the start and the end of an indented record, or None.

    conda sorts the keys, so that the long lists lie between ``build`` and ``sha256``; rattler writes the
    package's own facts first. Deeper keys are told apart by their indentation.
    """
    if not content.startswith(b"{\n") or not content.rstrip().endswith(b"\n}"):
        return None
    indent = content[2:16].split(b'"', 1)[0]
    if not indent or indent.strip():
        return None
    ends = content if len(content) <= 2 * _END else content[:_END] + b"\n" + content[-_END:]
    facts: Dict[str, str] = {}
    for key, value in re.findall(rb"\n" + indent + _TEXT, ends):
        facts[key.decode("ascii")] = str(json.loads(b'"' + value + b'"'))
    return facts if "channel" in facts and "subdir" in facts else None


def _metadata(content: bytes) -> Tuple[str, ...]:
    """Return the dist-info and egg-info among a record's files; found as text, most of a record is files."""
    found = set()
    for ending in _METADATA:
        place = content.find(ending)
        while place >= 0:
            start = content.rfind(b'"', 0, place) + 1
            path = content[start : place + len(ending) - 1].decode("utf-8", "replace")
            found.add(path.rpartition("/")[0] if b"/" in ending else path)
            place = content.find(ending, place + 1)
    return tuple(sorted(found))


def _wrong_path(root: Root, prefix: str, file: Dict[str, Any]) -> Optional[str]:
    """Return the path of a recorded file that is missing or modified, or None; raises OSError of one not readable."""
    relative = file.get("_path")
    if (
        not isinstance(relative, str)
        or relative.startswith("/")
        or ".." in relative.split("/")
        or "\0" in relative
    ):
        return None
    path = f"{prefix.rstrip('/')}/{relative}"
    if file.get("path_type") in ("softlink", "directory"):
        return path if not root.exists(path) and not _is_link(root, path) else None
    if not root.is_file(path):
        return path
    # sha256_in_prefix is taken after conda has put the prefix's name into the file.
    expected = file.get("sha256_in_prefix") or ("" if file.get("prefix_placeholder") else file.get("sha256"))
    if not expected or relative.endswith(".pyc"):
        return None
    from hashlib import sha256

    hasher = sha256()
    with root.open(path) as opened:
        while True:
            piece = opened.read(_CHUNK)
            if not piece:
                break
            hasher.update(piece)
    return None if hasher.hexdigest() == expected else path


def _is_link(root: Root, path: str) -> bool:
    """Tell whether a link is there, dangling as it may be: some come so in a package."""
    try:
        root.readlink(path)
    except OSError:
        return False
    return True
