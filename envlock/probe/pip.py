"""Which Python distributions an environment holds: dist-info, egg-info and egg-link, as importlib sees them.

Formats: https://packaging.python.org/en/latest/specifications/recording-installed-packages/ (dist-info,
RECORD, INSTALLER), core-metadata, direct-url (PEP 610). Nothing is imported; a distribution whose metadata
is broken costs its own facts only.
"""

import json
import re
from bisect import bisect_left
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

from envlock.probe.cache import FileCache
from envlock.probe.observation import Observation
from envlock.probe.python import NO_PYTHON, marker_environment
from envlock.probe.redact import mask_url
from envlock.probe.root import Entry, Root, TooLargeError, try_read
from envlock.probe.target import SitePath, Target

if TYPE_CHECKING:
    from envlock.probe.conda import Record

_HEADER_LIMIT = 1024 * 1024
"""Bytes of headers in a METADATA file at most; what follows them is the project's README."""
_WHOLE = 64 * 1024
"""Bytes of a METADATA file that are read at once; of a larger one only its headers."""
_RECORD_LIMIT = 64 * 1024 * 1024
_SMALL = 256 * 1024
_IMPORT_LIMIT = 12
"""Import names kept of one distribution at most."""
_CHUNK = 1024 * 1024

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,198}[A-Za-z0-9])?\Z")
_VERSION = re.compile(r"[A-Za-z0-9][\w.!+*-]{0,99}\Z", re.A)
# As email.feedparser: headers end at the first line that is neither a header nor a continuation.
_END_OF_HEADERS = rb"\n(?![!-9;-~]+:|[ \t]|From )"
# A literal newline first lets the regular expression engine skip from line to line.
_FIELD = r"\n([Nn](?=ame:)|[Vv](?=ersion:)|[Rr](?=equires-[Dd]ist:))[A-Za-z-]+:[ \t]*([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)"
_SPACE = " \t\r\n\v\f"
_HASHED = rb",sha(?:256|384|512)=[\w=+/-]+,\d*\Z"
_MODULE = rb"([A-Za-z_]\w*)(?:\.[\w-]+)*\.(?:py|so),"
_FOLDER = rb"[A-Za-z_]\w*/\Z"
_COMMA = ord(",")
_CHILD_LIMIT = 10_000
_EMPTY_FILE = b"sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
_BOOKKEEPING = frozenset(
    b"INSTALLER REQUESTED RECORD RECORD.jws RECORD.p7s direct_url.json provenance_url.json "
    b"uv_cache.json uv_build.json".split()
)
"""Files of a dist-info that installers write: they differ between two installs of one wheel."""
_OWN_SITES = ("site", "base")
_HIDING_SITES = ("PYTHONPATH", "user")


class _Found(NamedTuple):
    """One metadata folder or file on the path."""

    name: str
    version: str
    """"" when it could not be told."""
    site: SitePath
    metadata: str
    """The dist-info or egg-info; a folder or, for distutils, a file."""
    kind: str
    """"dist-info", "egg-info" (setuptools) or "egg-file" (distutils)."""
    requires: List[str]
    trouble: str
    """Why the version is not known."""
    link: str
    """The source folder that an egg-link names."""


class _Recorded(NamedTuple):
    """What a RECORD says of a distribution."""

    digest: str
    """"" where nothing is left to hash."""
    modules: List[str]
    editable: bool
    """An editable install's finder is among the files."""
    listed: bool
    """It lists files at all."""


def read_pip(
    root: Root,
    target: Optional[Target],
    records: Optional[List["Record"]] = None,
    cache: Optional[FileCache] = None,
) -> Observation:
    """Observe ``package.pip``, with ``_requires_dist`` and ``_markers`` for the manifest to evaluate.

    ``records`` are the conda-meta records of the prefix where the caller has read them already, ``cache`` one
    that is open. What conda owns is left to it; what pip put over it appears here.
    """
    seen = Observation()
    cache = FileCache(root) if cache is None else cache
    if target is None:
        seen.unobserved["package.pip"] = NO_PYTHON
        return seen
    if not target.minor:
        seen.unobserved["package.pip"] = (
            f"the version of {target.executable} cannot be told, so neither its path"
        )
        return seen
    found, unreadable = _find_all(root, target, cache)
    for path, reason in unreadable:
        seen.unobserved["package.pip"] = f"{path} cannot be read: {reason}"
    owned = _CondaOwned(root, target, records)
    packages = seen.table("package", "pip")
    requires = seen.table("_requires_dist")
    by_module: Dict[str, str] = {}
    for name, copies in sorted(found.items()):
        copy, hidden_by, others = _effective(root, copies)
        installer = _installer(root, copy)
        if owned.holds(copy, installer):
            continue
        packages[name] = _describe(root, cache, copy, installer, seen, by_module)
        if hidden_by:
            packages[name]["shadowed_by"] = hidden_by
        if others:
            packages[name]["duplicates"] = others
        if copy.requires:
            requires[name] = copy.requires
    _shadowed_modules(root, target, packages, by_module)
    seen.facts["_markers"] = marker_environment(root, target)
    return seen


def verify_files(
    root: Root,
    target: Target,
    records: Optional[List["Record"]] = None,
    unread: Optional[Dict[str, str]] = None,
) -> Dict[str, List[str]]:
    """Compare every installed file with the hash in its RECORD; name the modified and the missing ones.

    Reads whole files: seconds for a small environment, minutes for CUDA libraries. Compiled ``.pyc`` files
    are left out; a distribution without RECORD has nothing to compare. A file that cannot be read (an image
    may be opened without it) is no modified one: ``unread`` is given a reason for each project that has such.
    """
    wrong: Dict[str, List[str]] = {}
    found, _ = _find_all(root, target, FileCache(root))
    owned = _CondaOwned(root, target, records)
    for name, copies in sorted(found.items()):
        copy, _, _ = _effective(root, copies)
        if copy.kind != "dist-info" or owned.holds(copy, _installer(root, copy)):
            continue
        paths = []
        for path, algorithm, digest, size in _record_files(root, copy):
            try:
                if not _is_intact(root, path, algorithm, digest, size):
                    paths.append(path)
            except (OSError, ValueError) as error:
                if unread is not None:
                    unread.setdefault(name, f"{path} cannot be compared: {error}")
        if paths:
            wrong[name] = sorted(paths)
    return wrong


def normalise(name: str) -> str:
    """Return a project name as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


# ---- finding the metadata -------------------------------------------------------------------------------


def _find_all(
    root: Root, target: Target, cache: FileCache
) -> Tuple[Dict[str, List[_Found]], List[Tuple[str, str]]]:
    """Return the copies of each project in the order of sys.path, and the folders that cannot be read."""
    found: Dict[str, List[_Found]] = {}
    unreadable = []
    links: Dict[str, SitePath] = {}
    sites = [site for site in target.site_packages if site.origin != "editable"]
    scanned = set()
    for site in sites:
        scanned.add(root.realpath(site.path))
        if root.is_file(site.path):
            continue  # a zipped egg: its metadata is inside
        try:
            entries = root.scan(site.path)
        except OSError as error:
            unreadable.append((site.path, error.strerror or str(error)))
            continue
        for copy in _in_folder(root, cache, site, entries, links):
            found.setdefault(copy.name, []).append(copy)
    for folder, site in links.items():
        if root.realpath(folder) not in scanned:
            try:
                entries = root.scan(folder)
            except OSError:
                continue
            for copy in _in_folder(root, cache, site._replace(path=folder, origin="pth"), entries, {}):
                found.setdefault(copy.name, []).append(copy._replace(link=folder))
    for copies in found.values():
        for place, copy in enumerate(copies):
            if copy.site.path in links:
                copies[place] = copy._replace(link=copy.site.path)
    return found, unreadable


def _in_folder(
    root: Root, cache: FileCache, site: SitePath, entries: Iterable[Entry], links: Dict[str, SitePath]
) -> List[_Found]:
    found = []
    for entry in entries:
        name = entry.name
        suffix = name[-10:].lower()
        if name.startswith("~"):
            continue  # pip renames what it is about to remove; such leftovers are no distributions
        path = site.path.rstrip("/") + "/" + name
        if suffix == ".dist-info" and (entry.is_dir or entry.is_link):
            found.append(_read_metadata(root, cache, site, path, name[:-10], "dist-info", path + "/METADATA"))
        elif suffix.endswith(".egg-info"):
            kind = "egg-info" if entry.is_dir else "egg-file"
            file = path + "/PKG-INFO" if entry.is_dir else path
            found.append(_read_metadata(root, cache, site, path, name[:-9], kind, file))
        elif name == "EGG-INFO" and site.path.endswith(".egg"):
            stem = site.path.rpartition("/")[2][:-4]
            found.append(_read_metadata(root, cache, site, path, stem, "egg-info", path + "/PKG-INFO"))
        elif suffix.endswith(".egg-link"):
            line = (try_read(root, path, _SMALL) or "").splitlines()[:1]
            if line and line[0].startswith("/"):
                links.setdefault(line[0].strip().rstrip("/"), site)
    return [copy for copy in found if copy.name]


def _read_metadata(
    root: Root, cache: FileCache, site: SitePath, path: str, stem: str, kind: str, file: str
) -> _Found:
    # "numpy-1.26.4", "numpy-1.26.4-py3.11", "numpy": the escaped project name holds no dash in a dist-info.
    named = stem.partition("-")[0]
    if kind != "dist-info" and re.match(r".+-\d", stem):
        named = re.split(r"-(?=\d)", stem, maxsplit=1)[0]
    fallback = normalise(named) if _NAME.match(named) else ""
    try:
        name, version, requires = cache.remember("METADATA", file, lambda: _fields(root, file))
    except OSError as error:
        reason = f"no {file.rpartition('/')[2]} in {path}" if isinstance(error, FileNotFoundError) else ""
        trouble = reason or f"{file} cannot be read: {error.strerror or error}"
        return _Found(fallback, "", site, path, kind, [], trouble, "")
    trouble = ""
    if not _VERSION.match(version):
        trouble = (
            f"{file} has no Version" if not version else f"{file} has Version {version[:40]!r}, which is none"
        )
        version = ""
    known = normalise(name) if _NAME.match(name) else fallback
    if kind != "dist-info" and not requires and not trouble:
        requires = _egg_requires(root, path) if kind == "egg-info" else []
    return _Found(known, version, site, path, kind, requires, trouble, "")


def _fields(root: Root, path: str) -> List[Any]:
    """Return Name, Version and the list of Requires-Dist; "" for what a METADATA or PKG-INFO lacks."""
    name, version = "", ""
    requires: List[str] = []
    for key, raw in re.findall(_FIELD, _headers(root, path).decode("utf-8", "replace")):
        value = (re.sub(r"\r?\n[ \t]+", " ", raw) if "\n" in raw else raw).strip(_SPACE)
        if key in "Rr":
            requires.append(mask_url(value) if "://" in value else value)
        elif key in "Nn":
            name = name or value
        else:
            version = version or value
    return [name, version, requires]


def _headers(root: Root, path: str) -> bytes:
    """Return the header lines of a METADATA or PKG-INFO file, each after a newline.

    Reading stops where they end.
    """
    try:
        held = b"\n" + root.read(path, _WHOLE).lstrip(b"\xef\xbb\xbf")
    except TooLargeError:
        return _headers_of_large(root, path)
    end = re.search(_END_OF_HEADERS, held)
    return held[: end.start()] if end else held


def _headers_of_large(root: Root, path: str) -> bytes:
    held = b"\n"
    with root.open(path) as file:
        while len(held) < _HEADER_LIMIT:
            piece = file.read(16384)
            held += piece.lstrip(b"\xef\xbb\xbf") if len(held) == 1 else piece
            # The last line may be cut: what ends the headers is looked for in whole lines.
            last = held.rfind(b"\n")
            end = re.search(_END_OF_HEADERS, held)
            if end and (end.start() < last or not piece):
                return held[: end.start()]
            if not piece:
                break
    return held


def _egg_requires(root: Root, folder: str) -> List[str]:
    """Translate requires.txt, where setuptools wrote requirements before Requires-Dist, into its form."""
    lines = []
    condition = ""
    for raw in (try_read(root, folder + "/requires.txt", _SMALL) or "").splitlines():
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            extra, _, marker = line[1:-1].partition(":")
            parts = [f"({marker})"] if marker and extra else [marker] if marker else []
            condition = " and ".join(parts + ([f'extra == "{extra}"'] if extra else []))
        elif line and not line.startswith("#"):
            lines.append(mask_url(f"{line} ; {condition}" if condition else line))
    return lines


# ---- which copy counts ----------------------------------------------------------------------------------


def _effective(root: Root, copies: List[_Found]) -> Tuple[_Found, str, List[str]]:
    """Return the copy to record, the folder that hides it, and the other versions in its own folder."""
    chosen = copies[0]
    hidden_by = ""
    if chosen.site.origin in _HIDING_SITES:
        own = next((copy for copy in copies if copy.site.origin in _OWN_SITES), None)
        if own is not None:
            if not _is_source_of(root, own, chosen.site.path):
                hidden_by = chosen.site.path
            chosen = own
    beside = [copy for copy in copies if copy.site.path == chosen.site.path]
    if len(beside) > 1:
        chosen = max(beside, key=lambda copy: _completeness(root, copy))
    others = [copy.version or _version_of_name(copy) for copy in beside if copy is not chosen]
    return chosen, hidden_by, sorted(others)


def _is_source_of(root: Root, copy: _Found, folder: str) -> bool:
    """Tell whether a folder belongs to the source tree that an editable install points at."""
    source, editable, _ = _direct_url(root, copy)
    return editable and (folder == source or folder.startswith(source.rstrip("/") + "/"))


def _completeness(root: Root, copy: _Found) -> Tuple[float, int, int, str]:
    """Rank two dist-infos in one folder: whose recorded sizes fit the files that lie there, then the newer."""
    fitting = counted = 0
    for path, _, _, size in _record_files(root, copy)[:200]:
        if size is not None and not path.startswith(copy.metadata):
            counted += 1
            with suppress(OSError):
                fitting += root.stat(path).size == size
    try:
        written = root.stat(copy.metadata).mtime_ns
    except OSError:
        written = 0
    return (fitting / counted if counted else 0.0, int(bool(copy.version)), written, copy.metadata)


def _version_of_name(copy: _Found) -> str:
    """Return the version in a dist-info's own name, for one that has no METADATA any more."""
    stem = copy.metadata.rpartition("/")[2].rpartition(".")[0]
    version = stem.partition("-")[2].split("-py")[0]
    return version if _VERSION.match(version) else "unknown"


class _CondaOwned:
    """Whose dist-info it is: conda's when its record lists it and no other installer has signed since."""

    def __init__(self, root: Root, target: Target, records: Optional[List["Record"]]) -> None:
        self._root = root
        self._prefix = target.prefix.rstrip("/")
        self._records = records
        self._conda = target.kind == "conda"
        self._owned: Optional[Dict[str, Record]] = None

    def holds(self, copy: _Found, installer: str) -> bool:
        if not self._conda or not copy.metadata.startswith(self._prefix + "/"):
            return False
        if self._owned is None:
            if self._records is None:
                from envlock.probe.conda import read_records

                self._records, _ = read_records(self._root, self._prefix)
            self._owned = {path: record for record in self._records for path in record.metadata}
        record = self._owned.get(copy.metadata[len(self._prefix) + 1 :])
        if record is None:
            return False
        return installer in ("", "conda") or self._came_so(record, copy)

    def _came_so(self, record: "Record", copy: _Found) -> bool:
        """Tell whether conda's package itself holds this INSTALLER; some are built with pip's in it."""
        path = copy.metadata[len(self._prefix) + 1 :] + "/INSTALLER"
        from hashlib import sha256

        try:
            actual = sha256(self._root.read(copy.metadata + "/INSTALLER", _SMALL)).hexdigest()
            files = json.loads(self._root.read(record.path, _RECORD_LIMIT))["paths_data"]["paths"]
            return any(file["_path"] == path and file["sha256"] == actual for file in files)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return False


# ---- what is recorded of one ----------------------------------------------------------------------------


def _describe(
    root: Root, cache: FileCache, copy: _Found, installer: str, seen: Observation, by_module: Dict[str, str]
) -> Dict[str, Any]:
    package: Dict[str, Any] = {}
    if copy.version:
        package["version"] = copy.version
    else:
        seen.unobserved[f"package.pip.{copy.name}"] = copy.trouble
    if installer:
        package["installer"] = installer
    source, editable, trouble = _direct_url(root, copy)
    if trouble:
        seen.unobserved[f"package.pip.{copy.name}.source"] = trouble
    if source:
        package["source"] = source
    if editable:
        package["editable"] = True
    record = _recorded(root, cache, copy)
    if record is None:
        # Distributions' own packages come without RECORD on purpose; from an installer it is damage.
        if installer in ("pip", "uv", "poetry", "pdm"):
            seen.unobserved[f"package.pip.{copy.name}.digest"] = f"no readable RECORD in {copy.metadata}"
    elif not editable and record.digest:
        package["digest"] = record.digest
    modules = _imports(root, copy, record)
    if copy.site.origin != "PYTHONPATH":
        by_module.update(dict.fromkeys(modules, copy.name))
    named = [module for module in modules if not module.rpartition(".")[2].startswith("_")] or modules
    if any(normalise(module) != copy.name for module in named):
        package["imports"] = named[:_IMPORT_LIMIT]
    return package


def _installer(root: Root, copy: _Found) -> str:
    if copy.kind != "dist-info":
        return ""
    try:
        words = root.read(copy.metadata + "/INSTALLER", _SMALL).decode("utf-8", "replace").split()
    except OSError:
        return ""
    return words[0] if words and _NAME.match(words[0]) and len(words[0]) < 40 else ""


def _direct_url(root: Root, copy: _Found) -> Tuple[str, bool, str]:
    """Return where it was installed from, whether as an editable, and what is wrong with the record of it."""
    if copy.link:
        return copy.link, True, ""
    if copy.kind != "dist-info":
        return "", False, ""
    path = copy.metadata + "/direct_url.json"
    try:
        content = root.read(path, _SMALL)
    except FileNotFoundError:
        return "", False, ""
    except OSError as error:
        return "", False, f"{path} cannot be read: {error.strerror or error}"
    try:
        data = json.loads(content)
        url = str(data["url"])
        editable = data.get("dir_info", {}).get("editable") is True
        if "vcs_info" in data:
            kind, commit = str(data["vcs_info"]["vcs"]), str(data["vcs_info"]["commit_id"])
            url = f"{kind}+{_public(url)}@{commit}"
        elif url.startswith("file://"):
            url = _unquote(url[len("file://") :])
            url = url if url.startswith("/") else "/" + url.partition("/")[2]
        else:
            url = _public(url)
        if data.get("subdirectory"):
            url += f"#subdirectory={data['subdirectory']}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", False, f"{path} is no valid direct_url.json (PEP 610)"
    return (_printable(url)[:1000], editable, "")


def _public(url: str) -> str:
    """Drop what may be secret from a URL: user and password, query and fragment."""
    url = re.sub(r"(?<=://)(?!git@)[^/]*@", "", re.split(r"[?#]", url, maxsplit=1)[0])
    return mask_url(url)


def _unquote(path: str) -> str:
    if "%" not in path:
        return path
    from urllib.parse import unquote

    return unquote(path)


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


# ---- RECORD ---------------------------------------------------------------------------------------------


def _read_record(root: Root, copy: _Found) -> Optional[List[bytes]]:
    """Return the lines of a RECORD that give a hash, sorted; None where it is not there or not readable.

    Compiled files are the half of a RECORD, without hash and size: their lines end with a comma.
    """
    if copy.kind != "dist-info":
        return None
    try:
        lines = root.read(copy.metadata + "/RECORD", _RECORD_LIMIT).splitlines()
    except OSError:
        return None
    try:
        kept = [line for line in lines if line[-1] != _COMMA]
    except IndexError:  # an empty line
        kept = [line for line in lines if line[-1:] != b","]
    kept = kept or [line for line in lines if b",sha" in line]
    kept.sort()
    return kept


def _recorded(root: Root, cache: FileCache, copy: _Found) -> Optional[_Recorded]:
    """Return what RECORD says; None where it is not there or not readable.

    RECORDs are most of the bytes that an environment's metadata has, so what they say is remembered.
    """
    if copy.kind != "dist-info":
        return None
    folder = copy.metadata.rpartition("/")[2]

    def summarise() -> List[Any]:
        lines = _read_record(root, copy)
        if lines is None:
            raise FileNotFoundError(folder)
        if _first(lines, folder.encode("utf-8", "surrogateescape") + b"/namespace_packages.txt,"):
            raise _OtherFileError(lines)
        return list(_summary(root, copy, lines))

    try:
        told = cache.remember("RECORD " + folder, copy.metadata + "/RECORD", summarise)
        return _Recorded(*told)
    except _OtherFileError as error:
        return _summary(root, copy, error.lines)
    except OSError:
        return None


class _OtherFileError(Exception):
    """A RECORD whose reading takes another file, so that it must not be remembered by itself."""

    def __init__(self, lines: List[bytes]) -> None:
        super().__init__()
        self.lines = lines


def _summary(root: Root, copy: _Found, lines: List[bytes]) -> _Recorded:
    names, editable = _recorded_imports(root, copy, lines)
    return _Recorded(
        _digest(lines, copy.metadata.rpartition("/")[2]) or "", sorted(names), editable, bool(lines)
    )


def _digest(lines: List[bytes], folder: str) -> Optional[str]:
    """Hash the lines of a RECORD that are the same wherever the same wheel is installed.

    Left out: lines without a hash, .pyc files, paths outside site-packages (scripts, whose first line
    names the interpreter) and what installers write into the dist-info ``folder``; the order is left out
    too. None when nothing is left.
    """
    kept = lines[:]
    own = folder.encode("utf-8", "surrogateescape") + b"/"
    start, end = _below(kept, own)
    kept[start:end] = [
        line for line in kept[start:end] if line[len(own) :].partition(b",")[0] not in _BOOKKEEPING
    ]
    for outside in (b"/", b"../"):
        start, end = _below(kept, outside)
        del kept[start:end]
    whole = b"\n".join(kept)
    if b".pyc," in whole or b",," in whole:
        whole = b"\n".join(line for line in kept if b".pyc," not in line and b",," not in line)
    if not whole:
        return None
    from hashlib import sha256

    hasher = sha256(whole)
    hasher.update(b"\n")
    return "sha256:" + hasher.hexdigest()


def _below(lines: List[bytes], folder: bytes) -> Tuple[int, int]:
    """Return the range of sorted lines that begin with a folder, "/" included; "0" follows "/" in ASCII."""
    return bisect_left(lines, folder), bisect_left(lines, folder[:-1] + b"0")


def _record_files(root: Root, copy: _Found) -> List[Tuple[str, str, str, Optional[int]]]:
    """Return (path, algorithm, digest, size) of the files that a RECORD gives a hash for, .pyc left out."""
    files = []
    folder = copy.site.path.rstrip("/")
    outermost = folder.rsplit("/", 3)[0] + "/"
    for line in _read_record(root, copy) or ():
        if not re.search(_HASHED, line):
            continue
        path, digest, size = line.decode("utf-8", "surrogateescape").rsplit(",", 2)
        if path.startswith('"') and path.endswith('"'):
            path = path[1:-1].replace('""', '"')
        if path.endswith(".pyc") or "\0" in path:
            continue
        whole = _resolve(folder, path)
        if whole.startswith(outermost):
            algorithm, _, value = digest.partition("=")
            files.append((whole, algorithm, value.rstrip("="), int(size) if size else None))
    return files


def _resolve(folder: str, path: str) -> str:
    if path.startswith("/"):
        return path
    parts = folder.split("/")
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _is_intact(root: Root, path: str, algorithm: str, digest: str, size: Optional[int]) -> bool:
    """Tell whether a file is as recorded; raises OSError or ValueError where its content cannot be told."""
    import base64
    import hashlib

    try:
        stat = root.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not stat.is_file or (size is not None and stat.size != size):
        return False
    hasher = hashlib.new(algorithm)
    with root.open(path) as file:
        while True:
            piece = file.read(_CHUNK)
            if not piece:
                break
            hasher.update(piece)
    return base64.urlsafe_b64encode(hasher.digest()).rstrip(b"=").decode("ascii") == digest


# ---- import names ---------------------------------------------------------------------------------------


def _imports(root: Root, copy: _Found, record: Optional[_Recorded]) -> List[str]:
    """Return the modules and packages that a distribution brings, a namespace's parts in full.

    From RECORD; from top_level.txt where there is none or where it lists an editable's files only.
    """
    names = set(record.modules) if record is not None else set()
    if (record is None or not record.listed or record.editable) and copy.kind != "egg-file":
        text = try_read(root, copy.metadata + "/top_level.txt", _SMALL) or ""
        stripped = (line.strip().replace("/", ".") for line in text.splitlines())
        names.update(line for line in stripped if re.match(r"[A-Za-z_][\w.]*\Z", line, re.A))
    return sorted(names)


def _recorded_imports(root: Root, copy: _Found, record: List[bytes]) -> Tuple[Set[str], bool]:
    """Return the import names of a RECORD's lines, and whether an editable install's finder is among them.

    The lines are sorted: whole folders are stepped over.
    """
    names: Set[str] = set()
    editable = False
    for top in _children(record, b""):
        module = re.match(_MODULE, top)
        if module:
            name = module.group(1).decode("ascii")
            editable = editable or name.startswith("__editable__")
            if not name.startswith("__editable__"):
                names.add(name)
        elif re.match(_FOLDER, top):
            names.update(_packages(root, copy, record, top, 1))
    return names, editable


def _packages(root: Root, copy: _Found, record: List[bytes], folder: bytes, depth: int) -> Set[str]:
    """Return the package that a folder is, or the packages below it if it is only a namespace."""
    init = _first(record, folder + b"__init__.py,")
    if init and not _is_namespace(root, copy, record, folder, init):
        return {folder[:-1].decode("ascii").replace("/", ".")}
    if depth >= 3:
        return set()
    below = [_packages(root, copy, record, child, depth + 1) for child in _subfolders(record, folder)]
    return set().union(*below)


def _is_namespace(root: Root, copy: _Found, record: List[bytes], folder: bytes, init: bytes) -> bool:
    """Tell whether others may add to a package although it has an __init__.py."""
    name = folder[:-1].decode("ascii").replace("/", ".")
    if name == "nvidia" and _EMPTY_FILE in init:
        return True  # every one of NVIDIA's wheels for CUDA 11 and 12 brings it, of no bytes
    own = copy.metadata.rpartition("/")[2].encode("utf-8", "surrogateescape")
    if not _first(record, own + b"/namespace_packages.txt,"):
        return False
    return name in (try_read(root, copy.metadata + "/namespace_packages.txt", _SMALL) or "").split()


def _subfolders(record: List[bytes], folder: bytes) -> List[bytes]:
    return [child for child in _children(record, folder) if re.match(_FOLDER, child[len(folder) :])][:64]


def _children(record: List[bytes], folder: bytes) -> Iterator[bytes]:
    """Step through the entries of one folder: "folder/name/" of a folder, the whole line of a file."""
    place, end = _below(record, folder) if folder else (0, len(record))
    for _ in range(_CHILD_LIMIT):
        if place >= end:
            return
        line = record[place]
        slash = line.find(b"/", len(folder))
        comma = line.find(b",", len(folder))
        if slash < 0 or 0 <= comma < slash:
            place += 1
            yield line
        else:
            child = line[: slash + 1]
            yield child
            place = max(place + 1, bisect_left(record, child[:-1] + b"0"))


def _first(record: List[bytes], start: bytes) -> Optional[bytes]:
    place = bisect_left(record, start)
    return record[place] if place < len(record) and record[place].startswith(start) else None


def _shadowed_modules(
    root: Root, target: Target, packages: Dict[str, Dict[str, Any]], by_module: Dict[str, str]
) -> None:
    """Mark packages whose module is hidden by a bare folder or file of the same name on PYTHONPATH."""
    for site in target.site_packages:
        if site.origin != "PYTHONPATH":
            continue
        try:
            entries = root.scan(site.path)
        except OSError:
            continue
        for entry in entries:
            stem, dot, suffix = entry.name.partition(".")
            owner = by_module.get(stem)
            if owner is None or "shadowed_by" in packages[owner] or packages[owner].get("editable"):
                continue
            inner = f"{site.path.rstrip('/')}/{entry.name}/__init__.py"
            hides = root.is_file(inner) if entry.is_dir and not dot else entry.is_file and _is_module(suffix)
            if hides:
                packages[owner]["shadowed_by"] = site.path


def _is_module(suffix: str) -> bool:
    return suffix in {"py", "so"} or suffix.endswith(".so")
