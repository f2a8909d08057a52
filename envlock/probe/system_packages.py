"""Which packages of the operating system lie under the stack (dpkg, apk, rpm), and whose a library is.

Databases: /var/lib/dpkg/status (deb-control(5)) and status.d of distroless images, apk's installed file
(https://wiki.alpinelinux.org/wiki/Apk_spec), rpm's in any of its formats.
"""

import re
from binascii import crc32
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from envlock.probe.cache import FileCache
from envlock.probe.observation import Observation
from envlock.probe.root import Root, try_read

_DPKG_STATUS = "/var/lib/dpkg/status"
_DPKG_PARTS = "/var/lib/dpkg/status.d"
_DPKG_LISTS = "/var/lib/dpkg/info"
_APK = ("/lib/apk/db/installed", "/usr/lib/apk/db/installed")
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


def _read_rpm(root: Root, everything: bool, _cache: FileCache) -> Optional[_Database]:
    from envlock.probe.rpm import RpmError, read_headers, read_package

    try:
        headers = read_headers(root)
    except RpmError as error:
        raise _UnreadableError(str(error)) from None
    if headers is None:
        return None
    found = [package for package in map(read_package, headers) if package is not None]
    return _database([SystemPackage(*package) for package in found], everything)


def _owners_rpm(root: Root, wanted: Dict[bytes, List[str]]) -> Iterator[Tuple[str, str]]:
    from envlock.probe.rpm import RpmError, read_files, read_headers, read_package

    try:
        headers = read_headers(root) or []
    except RpmError:
        return
    names = [path.rpartition(b"/")[2] for path in wanted]
    for header in headers:
        # Base names are stored apart from their folders, each between two zero bytes.
        package = read_package(header) if any(name in header for name in names) else None
        if package is not None:
            for path in read_files(header):
                for asked in wanted.get(path, ()):
                    yield asked, f"rpm:{package.name}"
