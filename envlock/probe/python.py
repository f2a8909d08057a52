"""What the target's interpreter is: version, ABI, prefix, what it adds to its path, OpenSSL and SQLite.

Read from the files around the interpreter, which is never run: conda-meta, patchlevel.h, and the version
texts that are compiled into the executable and its libraries.
"""

import re
from typing import Dict, Iterator, List, Optional

from envlock.probe.cache import FileCache
from envlock.probe.observation import Observation
from envlock.probe.root import Root, try_read
from envlock.probe.target import Target

NO_PYTHON = "no Python was found: none is active, and none is on PATH"
_CHUNK = 1024 * 1024
_BINARY_LIMIT = 96 * 1024 * 1024
"""Bytes of an executable or library that are searched at most; a static CPython has some 30 MB."""
_OPENSSL = re.compile(rb"OpenSSL (\d+\.\d+\.\d+[a-z]*)(?:[-+ ][\w.+-]*)? +\d{1,2} [A-Z][a-z]{2} \d{4}")
_SQLITE = re.compile(rb"\x00(3\.\d{1,3}\.\d{1,3})\x00")
_LIBRARY_FOLDERS = (
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/usr/local/lib",
)
_MACHINES = {0x3E: "x86_64", 0xB7: "aarch64", 0x15: "ppc64le", 0xF3: "riscv64"}
"""e_machine of the ELF header to platform.machine()."""


def read_python(root: Root, target: Optional[Target], cache: Optional[FileCache] = None) -> Observation:
    """Observe ``[python]`` of the target; without a target it is unobserved."""
    seen = Observation()
    cache = FileCache(root) if cache is None else cache
    if target is None:
        seen.unobserved["python"] = NO_PYTHON
        return seen
    table = seen.table("python")
    version = full_version(root, target)
    if version:
        table["version"] = version
    else:
        seen.unobserved["python.version"] = f"no file beside {target.executable} tells its full version"
    table["implementation"] = target.implementation
    if target.minor and target.implementation == "CPython":
        table["abi"] = f"cp{target.minor.replace('.', '')}{'t' if target.free_threaded else ''}"
    table["executable"] = target.executable
    table["prefix"] = target.prefix
    if target.user_site is None:
        seen.unobserved["python.user_site"] = "a user site-packages is there, but HOME is not known"
    else:
        table["user_site"] = bool(target.user_site)
    for variable in target.passed_over:
        seen.unobserved[f"python.{variable}"] = (
            f"{variable} names no folder with a Python in it; {target.prefix} was taken instead"
        )
    added = [site.path for site in target.site_packages if site.origin in ("PYTHONPATH", "pth", "editable")]
    if added:
        table["path"] = list(dict.fromkeys(added))
    libraries = (("openssl", "_ssl", "libcrypto", _OPENSSL), ("sqlite", "_sqlite3", "libsqlite3", _SQLITE))
    for name, module, library, pattern in libraries:
        linked = _linked_version(root, target, cache, module, library, pattern)
        if linked:
            table[name] = linked
    return seen


def marker_environment(root: Root, target: Target) -> Dict[str, str]:
    """Return the PEP 508 marker variables of the target, those that its files tell.

    platform_release and platform_version belong to the running kernel and are left out.
    """
    name = target.implementation
    markers = {
        "implementation_name": name.lower(),
        "os_name": "posix",
        "platform_python_implementation": name,
        "platform_system": "Linux",
        "sys_platform": "linux",
    }
    if target.minor:
        markers["python_version"] = target.minor
    version = full_version(root, target)
    if version:
        markers["python_full_version"] = version
        if name == "CPython":
            markers["implementation_version"] = version
    machine = _machine(root, target.base_executable)
    if machine:
        markers["platform_machine"] = machine
    return markers


def full_version(root: Root, target: Target) -> Optional[str]:
    """Return the interpreter's version down to the patch level, or None where no file tells.

    pyvenv.cfg comes last: it says what the interpreter was when the venv was made.
    """
    if not target.minor:
        return None
    return (
        _from_conda(root, target.base_prefix, "python", target.minor + ".")
        or _from_header(root, target)
        or _from_binary(root, target)
        or _from_config(target)
    )


def _from_conda(root: Root, prefix: str, package: str, start: str = "") -> Optional[str]:
    """Tell a version from the name of a conda-meta file: <package>-<version>-<build>.json."""
    try:
        names = [entry.name for entry in root.scan(prefix.rstrip("/") + "/conda-meta")]
    except OSError:
        return None
    for name in names:
        parts = name.rsplit("-", 2)
        if len(parts) == 3 and parts[0] == package and name.endswith(".json") and parts[1].startswith(start):
            return parts[1]
    return None


def _from_header(root: Root, target: Target) -> Optional[str]:
    folder = target.library.rpartition("/")[2]
    path = f"{target.base_prefix.rstrip('/')}/include/{folder}/patchlevel.h"
    found = re.search(r'#define\s+PY_VERSION\s+"([^"+\s]+)', try_read(root, path, _CHUNK) or "")
    return found.group(1) if found and found.group(1).startswith(target.minor + ".") else None


def _from_binary(root: Root, target: Target) -> Optional[str]:
    """Find the version text in the executable, or in the libpython beside it that a small one links to."""
    pattern = re.compile(
        rb"\x00(%s\.\d{1,3}(?:(?:a|b|rc)\d{1,2})?)\+?\x00" % re.escape(target.minor.encode())
    )
    library = f"/lib{target.library.rpartition('/')[2]}.so.1.0"
    folders = [target.base_prefix.rstrip("/") + "/lib", *_LIBRARY_FOLDERS]
    for path in [target.base_executable, *(folder + library for folder in folders)]:
        version = _search(root, path, pattern)
        if version:
            return version
    return None


def _from_config(target: Target) -> Optional[str]:
    found = re.match(
        r"\d+\.\d+\.\d+", target.config.get("version_info") or target.config.get("version") or ""
    )
    return found.group() if found and found.group().startswith(target.minor + ".") else None


def _linked_version(
    root: Root, target: Target, cache: FileCache, module: str, library: str, pattern: "re.Pattern[bytes]"
) -> Optional[str]:
    """Return the version of the library that an extension module of the standard library runs with.

    Only where it is sure: conda says so, it is linked statically, or a single copy can be meant.
    """
    if root.is_dir(target.base_prefix.rstrip("/") + "/conda-meta"):
        packages = ("openssl",) if library == "libcrypto" else ("libsqlite", "sqlite")
        for package in packages:
            version = _from_conda(root, target.base_prefix, package)
            if version:
                return version
        return None
    extension = _extension(root, target, module)
    if extension is None:
        # Built into the interpreter, as in python-build-standalone.
        return _remembered(root, cache, target.base_executable, library, pattern)
    try:
        needed, version = cache.remember(
            "links " + library, extension, lambda: _linked_or_needed(root, extension, library, pattern)
        )
    except OSError:
        return None
    if not needed:
        return str(version) if version else None
    copies = set(_copies(root, target, needed))
    return _remembered(root, cache, copies.pop(), library, pattern) if len(copies) == 1 else None


def _linked_or_needed(
    root: Root, extension: str, library: str, pattern: "re.Pattern[bytes]"
) -> List[Optional[str]]:
    """Return the soname that an extension module asks for, and the version of what it holds itself without one."""
    content = root.read(extension)
    needed = re.search(rb"\x00(" + library.encode() + rb"\.so[.\d]*)\x00", content)
    if needed is not None:
        return [needed.group(1).decode("ascii"), None]
    found = pattern.search(content)
    return [None, found.group(1).decode("ascii") if found else None]


def _remembered(
    root: Root, cache: FileCache, path: str, library: str, pattern: "re.Pattern[bytes]"
) -> Optional[str]:
    def search() -> str:
        version = _search(root, path, pattern)
        if version is None:  # not to be remembered: it may only be unreadable for this user
            raise FileNotFoundError(path)
        return version

    try:
        return str(cache.remember("version " + library, path, search))
    except OSError:
        return None


def _extension(root: Root, target: Target, module: str) -> Optional[str]:
    folder = target.library + "/lib-dynload"
    try:
        names = [entry.name for entry in root.scan(folder)]
    except OSError:
        return None
    return next((f"{folder}/{name}" for name in names if name.split(".")[0] == module), None)


def _copies(root: Root, target: Target, soname: str) -> Iterator[str]:
    folders: List[str] = [folder for folder in root.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    for folder in [*folders, target.base_prefix.rstrip("/") + "/lib", *_LIBRARY_FOLDERS]:
        path = folder.rstrip("/") + "/" + soname
        if path.startswith("/") and root.is_file(path):
            yield root.realpath(path)


def _search(root: Root, path: str, pattern: "re.Pattern[bytes]") -> Optional[str]:
    """Return the first group of the first match in a binary file, read piece by piece."""
    try:
        with root.open(path) as file:
            held = b""
            for _ in range(_BINARY_LIMIT // _CHUNK):
                piece = file.read(_CHUNK)
                if not piece:
                    return None
                found = pattern.search(held + piece)
                if found:
                    return found.group(1).decode("ascii")
                held = piece[-128:]
    except OSError:
        pass
    return None


def _machine(root: Root, executable: str) -> Optional[str]:
    try:
        with root.open(executable) as file:
            header = file.read(20)
    except OSError:
        return None
    if len(header) < 20 or header[:4] != b"\x7fELF":
        return None
    return _MACHINES.get(int.from_bytes(header[18:20], "little"))
