"""Which files of an image keep their content: those that a probe may ask for."""

import re

SMALL = 256 * 1024
"""Bytes up to which a text file that states a version is kept: such files are short."""
METADATA = 16 * 1024 * 1024
"""Bytes up to which package metadata is kept; probes read no more of a file."""
DATABASE = 1 << 30
"""Bytes up to which the database of a system's package manager is kept."""

_NAMES = frozenset(
    [
        "os-release",
        "lsb-release",
        "debian_version",
        "nv_tegra_release",
        "pyvenv.cfg",
        "ld.so.cache",
        "ld.so.conf",
        "ld.so.preload",
        "version.json",
        "version.txt",
        "version.py",
        "version_info.py",
        "build_info.py",
        "build_and_package_info.py",
        "versions.py",
        "release",
        "release.txt",
        "cpp_lib.json",
        "nvcc.profile",
        "patchlevel.h",
        "cuda.h",
        "cuda_runtime_api.h",
        "cudnn.h",
        "nccl.h",
        "history",
        ".condarc",
        "condarc",
        "sitecustomize.py",
        "usercustomize.py",
        "orte-info",
        "mpi.h",
        "pixi.toml",
        "crtbegin.o",
        "site.py",
        "ofed_info",
        "VERSION",
        "INSTALLER",
    ]
)
_SUFFIXES = (".pth", ".egg-link", ".egg-info", "-release", ".start")
_FOLDERS = frozenset(["conda-meta", "egg-info", "ld.so.conf.d", ".singularity.d", "version"])
_PACKAGE = re.compile(r"(?:site|dist)-packages/[^/]+/__init__\.py$")
_SYSTEM = re.compile(r"etc/envlock/|var/lib/dpkg/(?:status|status\.d/|info/[^/]*\.(?:list|md5sums)$)")
_DATABASE = re.compile(
    r"^(?:var/lib/dpkg/status|lib/apk/db/installed|usr/lib/apk/db/installed|(?:var/lib|usr/lib/sysimage|usr/share)/rpm/(?:rpmdb\.sqlite|Packages(?:\.db)?))$"
)
_LIBRARY = re.compile(r"\.so(?:\.[0-9][^/]*)?$")
_VERSION = re.compile(r"version|build_info|_config__", re.IGNORECASE)
_VERSION_SUFFIXES = (".py", ".h", ".hpp", ".txt", ".json", ".cfg")
_PROGRAM = re.compile(
    r"^(?:python[0-9.]*|pypy[0-9.]*|nvcc|ptxas|bin2c|fatbinary|(?:da|ba)?sh|env|busybox|(?:[a-z0-9_]+-linux-gnu-)?(?:gcc|g\+\+|clang|clang\+\+)(?:-[0-9.]+)?"
    r"|nvidia-fabricmanager|nv-fabricmanager|nvidia-container-cli)$"
)


_SEARCHED = re.compile(
    r"^(?:(?:lib)?python|(?:lib)?pypy|libcrypto|libsqlite3|libc[.-]|ld-musl|nvcc|bin2c|fatbinary|_ssl|_hashlib|_sqlite3)"
)


def wanted(path: str, size: int, mode: int) -> bool:
    """Tell whether the content of a regular file is kept.

    ``path`` is relative to the image's root ("usr/lib/os-release"), ``size`` in bytes, ``mode`` the
    permission bits. Of a shared library all but its code is kept: which part of it is asked for
    (headers, symbol versions, a version string in the data) is known only at its end.
    """
    name = path.rpartition("/")[2]
    if ".so" in name and _LIBRARY.search(name):
        return True
    if name in _NAMES or name.endswith(_SUFFIXES) or _is_metadata(path, name):
        return size <= METADATA or _is_database(path, size)
    if size <= SMALL and name.endswith(_VERSION_SUFFIXES) and _VERSION.search(name):
        return True
    if mode & 0o111 and _PROGRAM.match(name):
        return True
    return _is_database(path, size)


def searched(path: str) -> bool:
    """Tell whether a probe searches a program or library as a whole, for the text that states its version."""
    return _SEARCHED.match(path.rpartition("/")[2]) is not None


def _is_metadata(path: str, name: str) -> bool:
    """Tell whether a file describes a package. Names are compared where a search would cost as much as all else."""
    if name == "__init__.py" and _PACKAGE.search(path):
        return True
    folders = path.lower().split("/")[:-1]
    return (
        not _FOLDERS.isdisjoint(folders)
        or any(folder.endswith((".dist-info", ".egg-info")) for folder in folders)
        or name.startswith("__editable__")
        or _SYSTEM.match(path) is not None
    )


def _is_database(path: str, size: int) -> bool:
    return size <= DATABASE and _DATABASE.match(path) is not None
