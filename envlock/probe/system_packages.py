"""Which packages of the operating system lie under the stack (dpkg, apk, rpm), and whose a library is.

Databases: /var/lib/dpkg/status (deb-control(5)) and status.d of distroless images, apk's installed file
(https://wiki.alpinelinux.org/wiki/Apk_spec), rpm's SQLite database of header blobs
(https://rpm-software-management.github.io/rpm/manual/format_header.html).
"""

import re
import struct
from binascii import crc32
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from envlock.probe.cache import FileCache
from envlock.probe.observation import Observation
from envlock.probe.root import Root, try_read

_DPKG_STATUS = "/var/lib/dpkg/status"
_DPKG_PARTS = "/var/lib/dpkg/status.d"
_DPKG_LISTS = "/var/lib/dpkg/info"
_APK = ("/lib/apk/db/installed", "/usr/lib/apk/db/installed")
_RPM = ("/var/lib/rpm", "/usr/lib/sysimage/rpm", "/usr/share/rpm")
_LIMIT = 512 * 1024 * 1024
_SMALL = 1024 * 1024
_LIST_LIMIT = 32 * 1024 * 1024

_STACK = (
    r"(?i)(?:lib)?nvidia-|nvidia(?:$|[.-])|kmod-nvidia|xserver-xorg-video-nvidia|cuda(?:$|-)|datacenter-gpu|dcgm"
    r"|lib(?:cu(?:blas|da|dnn|dss|fft|file|inj|objclient|pti|quantum|rand|solver|sparse|tensor)|nccl|npp"
    r"|nv(?:idia|infer|jitlink|jpeg|onnx|parsers|rtc|shmem|tx|vm|fatbin|blas))"
    r"|tensorrt|gdrcopy|nsight-|nccl|cudnn"
    r"|lib(?:mlx|ib(?:verbs|umad|mad)|rdma|fabric|ucx|psm|openmpi|mpich|efa)"
    r"|openmpi|mpich|ucx(?:$|-)|.*ofed|mlnx-|mft(?:$|-)|rdma-|ibverbs-|perftest|opensm|doca-|efa(?:$|-)|aws-ofi"
    r"|gcc(?:-\d|$)|g\+\+(?:-\d|$)|gcc-c\+\+$|gcc-toolset|clang(?:-\d|$)|cpp$|binutils$|(?:lib)?llvm\d"
    r"|lib(?:stdc\+\+|gcc|gomp|omp|iomp|c6|c-bin|gl1|gl$|glx|egl|opengl|glvnd|glib2|gfortran|openblas|blas"
    r"|lapack|mkl|tbb|jemalloc|tcmalloc|numa|ssl|crypto|sm6|xext|xrender)|intel-(?:mkl|oneapi|openmp)"
    r"|(?:glibc|musl|openssl|glib2|mesa|numactl)(?:$|[-_])"
    r"|python[23]|platform-python|rocm|hip-|rccl|miopen|amdgpu"
)
_PACKAGED = re.compile(r"/(?:usr|lib|lib32|lib64|bin|sbin|opt|etc)/")
"""Where packages put files; what lies elsewhere need not be looked up."""
_SIDE = r"(?:-doc|-docs|-dbg|-dbgsym|-debuginfo|-debugsource|-man|-locale|-l10n|-src)\Z|linux-headers"
"""Documentation and debug files of a package that is recorded itself."""


class SystemPackage(NamedTuple):
    """One installed package."""

    name: str
    version: str
    arch: str


class _Database(NamedTuple):
    """What is wanted of a package database."""

    packages: List[SystemPackage]
    archs: Dict[str, int]
    """Packages of each architecture, the unwanted ones too."""


def read_system_packages(
    root: Root, everything: bool = False, cache: Optional[FileCache] = None
) -> Observation:
    """Observe ``package.system``: what the GPU and ML stack consists of, or every package."""
    seen = Observation()
    cache = FileCache(root) if cache is None else cache
    databases: List[_Database] = []
    for reader in (_read_dpkg, _read_apk, _read_rpm):
        try:
            database = reader(root, everything, cache)
        except _UnreadableError as error:
            seen.unobserved["package.system"] = str(error)
            continue
        if database is not None:
            databases.append(database)
    if not databases and not seen.unobserved:
        seen.unobserved["package.system"] = "no package database of dpkg, apk or rpm"
    wanted = [package for database in databases for package in database.packages]
    native = _native_arch(databases)
    for package in sorted(wanted, key=lambda package: (package.name, package.arch != native, package.arch)):
        table = seen.table("package", "system")
        name = package.name
        if name in table:
            # A second architecture (libc6:i386), or a second version (rpm's kernels): the newest stays.
            name = f"{name}:{package.arch}" if package.arch != native else name
        table[name] = package.version
    return seen


def belongs_to_stack(name: str) -> bool:
    """Tell whether a package is part of what GPU programs run on."""
    return re.match(_STACK, name) is not None and re.search(_SIDE, name) is None


def owner(root: Root, path: str) -> Optional[str]:
    """Return the package that a file came with, "deb:libcudnn9-cuda-12", or None."""
    return owners(root, [path]).get(path)


def owners(root: Root, paths: Sequence[str]) -> Dict[str, str]:
    """Return the packages that files came with, by path; files of no package are left out.

    Links in a path should be resolved already. Databases are read once for all paths.
    """
    wanted: Dict[bytes, List[str]] = {}
    for path in paths:
        if not _PACKAGED.match(path):
            continue
        for spelling in _spellings(path):
            wanted.setdefault(spelling.encode("utf-8", "surrogateescape"), []).append(path)
    found: Dict[str, str] = {}
    for search in (_owners_dpkg, _owners_apk, _owners_rpm):
        if wanted and len(found) < len(set(paths)):
            for path, name in search(root, wanted):
                found.setdefault(path, name)
    return found


class _UnreadableError(Exception):
    """A package database is there and cannot be read; the text is the reason."""


def _spellings(path: str) -> List[str]:
    """Return how a database may spell a path: packages older than the /usr merge say /lib."""
    if re.match(r"/usr/(?:lib|bin|sbin)", path):
        return [path, path[len("/usr") :]]
    if re.match(r"/(?:lib|bin|sbin)", path):
        return [path, "/usr" + path]
    return [path]


def _database(packages: List[SystemPackage], everything: bool) -> _Database:
    archs: Dict[str, int] = {}
    for package in packages:
        if package.arch not in ("all", "noarch", "(none)", ""):
            archs[package.arch] = archs.get(package.arch, 0) + 1
    return _Database([package for package in packages if everything or belongs_to_stack(package.name)], archs)


def _native_arch(databases: Sequence[_Database]) -> str:
    """Return the architecture that most packages have."""
    count: Dict[str, int] = {}
    for database in databases:
        for arch, packages in database.archs.items():
            count[arch] = count.get(arch, 0) + packages
    return max(sorted(count), key=lambda arch: count[arch]) if count else ""


# ---- dpkg -----------------------------------------------------------------------------------------------


def _read_dpkg(root: Root, everything: bool, cache: FileCache) -> Optional[_Database]:
    parts = _names(root, _DPKG_PARTS)

    def wanted() -> List[Any]:
        whole = _database(_dpkg_packages(root, parts), everything)
        return [[list(package) for package in whole.packages], whole.archs]

    try:
        if everything or parts:
            return _database(_dpkg_packages(root, parts), everything)
        # What is wanted is a matter of the patterns, so that new ones ask anew.
        packages_of_stack, archs = cache.remember(
            f"dpkg {crc32((_STACK + _SIDE).encode())}", _DPKG_STATUS, wanted
        )
    except FileNotFoundError:
        return None
    return _Database([SystemPackage(*package) for package in packages_of_stack], archs)


def _dpkg_packages(root: Root, parts: Sequence[str]) -> List[SystemPackage]:
    """Return the installed packages; raises FileNotFoundError where there is no database."""
    texts = []
    try:
        texts.append(root.read(_DPKG_STATUS, _LIMIT))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _UnreadableError(f"{_DPKG_STATUS} cannot be read: {error.strerror or error}") from None
    for name in parts:
        text = try_read(root, f"{_DPKG_PARTS}/{name}", _SMALL)
        if text and not name.endswith(".md5sums"):
            texts.append(text.encode("utf-8", "replace"))
    if not texts:
        raise FileNotFoundError(_DPKG_STATUS)
    return [package for text in texts for package in _dpkg_stanzas(text, text is not texts[0])]


def _dpkg_stanzas(content: bytes, parts: bool) -> Iterator[SystemPackage]:
    for stanza in content.split(b"\n\n"):
        text = b"\n" + stanza + b"\n"
        status = _field(text, b"\nStatus:")
        # "install ok installed", "hold ok installed"; files of status.d carry no Status.
        if status.endswith(" installed") or (not status and b"\nPackage:" in text):
            name, version = _field(text, b"\nPackage:"), _field(text, b"\nVersion:")
            if name and version and len(name) < 200 and len(version) < 200:
                yield SystemPackage(name, version, _field(text, b"\nArchitecture:"))


def _field(stanza: bytes, key: bytes) -> str:
    """Return a field of a stanza that starts and ends with a newline; the key has its newline and colon."""
    start = stanza.find(key) + len(key)
    if start < len(key):
        return ""
    return stanza[start : stanza.find(b"\n", start)].strip().decode("utf-8", "replace")


def _owners_dpkg(root: Root, wanted: Dict[bytes, List[str]]) -> Iterator[Tuple[str, str]]:
    """Look through the file lists, those of the stack's packages first: there most libraries are."""
    lists = [name for name in _names(root, _DPKG_LISTS) if name.endswith(".list")]
    lists.sort(key=lambda name: not belongs_to_stack(name))
    left = set(wanted)
    missing: Set[str] = {path for paths in wanted.values() for path in paths}
    for name in lists:
        try:
            lines = root.read(f"{_DPKG_LISTS}/{name}", _LIST_LIMIT).split(b"\n")
        except OSError:
            continue
        for line in left.intersection(lines):
            for path in wanted[line]:
                missing.discard(path)
                yield path, "deb:" + name[: -len(".list")].partition(":")[0]
        if not missing:
            return
    for name in _names(root, _DPKG_PARTS):
        if name.endswith(".md5sums"):
            text = try_read(root, f"{_DPKG_PARTS}/{name}", _LIST_LIMIT) or ""
            lines = [b"/" + line[34:].strip().encode("utf-8", "replace") for line in text.splitlines()]
            for line in left.intersection(lines):
                for path in wanted[line]:
                    yield path, "deb:" + name[: -len(".md5sums")]


def _names(root: Root, folder: str) -> List[str]:
    try:
        return [entry.name for entry in root.scan(folder)]
    except OSError:
        return []


# ---- apk ------------------------------------------------------------------------------------------------


def _apk_database(root: Root) -> Optional[bytes]:
    for path in _APK:
        try:
            return root.read(path, _LIMIT)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _UnreadableError(f"{path} cannot be read: {error.strerror or error}") from None
    return None


def _read_apk(root: Root, everything: bool, _cache: FileCache) -> Optional[_Database]:
    content = _apk_database(root)
    if content is None:
        return None
    stanzas = (b"\n" + stanza + b"\n" for stanza in content.split(b"\n\n"))
    found = [
        SystemPackage(_field(stanza, b"\nP:"), _field(stanza, b"\nV:"), _field(stanza, b"\nA:"))
        for stanza in stanzas
    ]
    return _database([package for package in found if package.name and package.version], everything)


def _owners_apk(root: Root, wanted: Dict[bytes, List[str]]) -> Iterator[Tuple[str, str]]:
    try:
        content = _apk_database(root) or b""
    except _UnreadableError:
        return
    name = folder = b""
    for line in content.split(b"\n"):
        kind, value = line[:2], line[2:]
        if kind == b"P:":
            name = value
        elif kind == b"F:":
            folder = b"/" + value + b"/"
        elif kind == b"R:":
            for path in wanted.get(folder + value, ()):
                yield path, "apk:" + name.decode("utf-8", "replace")


# ---- rpm ------------------------------------------------------------------------------------------------

_NAME, _VERSION, _RELEASE, _EPOCH, _ARCH = 1000, 1001, 1002, 1003, 1022
_DIRINDEXES, _BASENAMES, _DIRNAMES = 1116, 1117, 1118
_INT32, _STRINGS = 4, (6, 8, 9)


def _read_rpm(root: Root, everything: bool, _cache: FileCache) -> Optional[_Database]:
    blobs = _rpm_blobs(root)
    if blobs is None:
        return None
    found = [_rpm_package(blob) for blob in blobs]
    return _database(
        [package for package in found if package is not None and package.name != "gpg-pubkey"], everything
    )


def _rpm_package(blob: bytes) -> Optional[SystemPackage]:
    tags = _rpm_tags(blob, (_NAME, _VERSION, _RELEASE, _EPOCH, _ARCH))
    name, version = _text(tags, _NAME), _text(tags, _VERSION)
    if not name or not version:
        return None
    release, epoch = _text(tags, _RELEASE), tags.get(_EPOCH)
    whole = f"{version}-{release}" if release else version
    return SystemPackage(name, f"{epoch[0]}:{whole}" if epoch else whole, _text(tags, _ARCH))


def _text(tags: Dict[int, List[object]], tag: int) -> str:
    values = tags.get(tag)
    return str(values[0]) if values else ""


def _rpm_blobs(root: Root) -> Optional[List[bytes]]:
    """Return the headers of all packages; raises _UnreadableError for databases other than SQLite."""
    for folder in _RPM:
        names = _names(root, folder)
        if "rpmdb.sqlite" in names:
            return _sqlite_blobs(root, folder + "/rpmdb.sqlite")
        for name, kind in (("Packages.db", "ndb"), ("Packages", "Berkeley DB")):
            if name in names:
                raise _UnreadableError(
                    f"{folder}/{name} is an rpm database in {kind} format; only SQLite is read"
                )
    return None


def _sqlite_blobs(root: Root, path: str) -> List[bytes]:
    try:
        import sqlite3
    except ImportError:
        raise _UnreadableError(f"{path} cannot be read: this Python has no sqlite3 module") from None
    try:
        content = bytearray(root.read(path, _LIMIT))
        if len(content) < 100 or content[:16] != b"SQLite format 3\x00":
            raise _UnreadableError(f"{path} is no SQLite database")
        # rpm writes in WAL mode, which a database in memory does not have: mark it as a plain one
        # (https://www.sqlite.org/fileformat.html, offsets 18 and 19).
        content[18:20] = b"\x01\x01"
        return _select_blobs(bytes(content))
    except (OSError, sqlite3.Error) as error:
        raise _UnreadableError(f"{path} cannot be read: {error}") from None


def _select_blobs(content: bytes) -> List[bytes]:
    import os
    import sqlite3
    import tempfile

    query = "SELECT blob FROM Packages"
    connection = sqlite3.connect(":memory:")
    try:
        if hasattr(connection, "deserialize"):
            connection.deserialize(content)
            return [row[0] for row in connection.execute(query) if isinstance(row[0], bytes)]
    finally:
        connection.close()
    with tempfile.TemporaryDirectory() as folder:  # CPython before 3.11 reads files only
        copy = os.path.join(folder, "rpmdb.sqlite")
        with open(copy, "wb") as file:
            file.write(content)
        connection = sqlite3.connect(copy)
        try:
            return [row[0] for row in connection.execute(query) if isinstance(row[0], bytes)]
        finally:
            connection.close()


def _rpm_tags(blob: bytes, wanted: Sequence[int]) -> Dict[int, List[object]]:
    """Return the values of some tags of a header: counts of index and data, index entries, data."""
    tags: Dict[int, List[object]] = {}
    if len(blob) < 8:
        return tags
    entries, size = struct.unpack_from(">II", blob)
    start = 8 + 16 * entries
    if entries > 65536 or start + size > len(blob):
        return tags
    data = blob[start : start + size]
    for tag, kind, offset, count in struct.iter_unpack(">IIII", blob[8:start]):
        if tag not in wanted or offset >= size or count > 1_000_000:
            continue
        if kind in _STRINGS:
            texts = (
                data[offset:].split(b"\x00", count)[:count]
                if count > 1
                else [data[offset:].split(b"\x00", 1)[0]]
            )
            tags[tag] = [text.decode("utf-8", "replace") for text in texts]
        elif kind == _INT32 and offset + 4 * count <= size:
            tags[tag] = list(struct.unpack_from(f">{count}I", data, offset))
    return tags


def _owners_rpm(root: Root, wanted: Dict[bytes, List[str]]) -> Iterator[Tuple[str, str]]:
    try:
        blobs = _rpm_blobs(root) or []
    except _UnreadableError:
        return
    names = [path.rpartition(b"/")[2] for path in wanted]
    for blob in blobs:
        # Base names are stored apart from their folders, each between two zero bytes.
        if not any(name in blob for name in names):
            continue
        tags = _rpm_tags(blob, (_NAME, _DIRINDEXES, _BASENAMES, _DIRNAMES))
        folders = tags.get(_DIRNAMES, [])
        for index, name in zip(tags.get(_DIRINDEXES, []), tags.get(_BASENAMES, [])):
            if isinstance(index, int) and index < len(folders):
                path = f"{folders[index]}{name}".encode("utf-8", "surrogateescape")
                for asked in wanted.get(path, ()):
                    yield asked, "rpm:" + _text(tags, _NAME)
