"""The compilers that a build of a CUDA extension would use: gcc, the C++ compiler, nvcc."""

import re
from typing import List, Optional

from envlock.probe.observation import Observation
from envlock.probe.root import Root, UnobservableError
from envlock.probe.toolkit import find_program, find_toolkits

_WRAPPERS = ("ccache", "sccache", "distcc", "icecc")


def read_compiler(root: Root) -> Observation:
    """Read [compiler]. CC and CXX come before PATH; gcc stays PATH's where CC names another compiler."""
    seen = Observation()
    table = seen.table("compiler")
    chosen = _from_variable(root, "CC")
    gcc = chosen if chosen and "gcc" in _name(chosen) else find_program(root, "gcc", skip="ccache")
    if gcc is not None:
        version = compiler_version(root, gcc)
        if version:
            table["gcc"] = version
        else:
            seen.unobserved["compiler.gcc"] = f"{gcc} tells no version"
    cxx = _from_variable(root, "CXX")
    for name in ("g++", "c++", "clang++"):
        cxx = cxx or find_program(root, name, skip="ccache")
    if cxx is not None:
        version = compiler_version(root, cxx)
        if version:
            table["cxx"] = f"{_family(root, cxx)} {version}"
        else:
            seen.unobserved["compiler.cxx"] = f"{cxx} tells no version"
    for toolkit in find_toolkits(root):
        if toolkit.active and toolkit.version and root.exists(toolkit.path + "/bin/nvcc"):
            table["nvcc"] = toolkit.version
    if not table:
        del seen.facts["compiler"]
    return seen


def compiler_version(root: Root, path: str) -> Optional[str]:
    """Return a compiler's version from the files beside it, else by asking it."""
    real = root.realpath(path)
    version = _clang_version(root, real) if "clang" in _name(real) else _gcc_version(root, real)
    if version is not None:
        return version
    try:
        output = root.run([path, "-dumpfullversion", "-dumpversion"], timeout=3.0)
    except UnobservableError:
        return None
    found = re.match(r"(\d{1,3}(?:\.\d{1,3}){0,2})\s*\Z", output)
    return found.group(1) if found else None


def _from_variable(root: Root, variable: str) -> Optional[str]:
    """Return the program that CC or CXX names: it may come with a wrapper and flags ("ccache gcc-11 -m64")."""
    for word in root.environ.get(variable, "").split()[:8]:
        if _name(word) in _WRAPPERS or word.startswith("-"):
            continue
        if word.startswith("/"):
            return word if root.is_file(word) else None
        return find_program(root, word)
    return None


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _family(root: Root, path: str) -> str:
    name = _name(root.realpath(path))
    if "clang" in name:
        return "clang++"
    return "g++" if "g++" in name or "c++" in name else name[:40]


def _gcc_version(root: Root, real: str) -> Optional[str]:
    """Return the version that gcc wrote into its own start files: ".comment" holds "GCC: (Debian ...) 12.2.0".

    They lie in <prefix>/lib/gcc/<triple>/<version>/crtbegin.o; the folder is named by the major
    version alone in most distributions, and the program's name may end in it (gcc-12).
    """
    prefix = real.rsplit("/", 2)[0]
    suffix = re.search(r"-(\d{1,2}(?:\.\d{1,2})?)\Z", _name(real))
    base = prefix + "/lib/gcc"
    versions = []
    for triple in _folders(root, base):
        for version in _folders(root, f"{base}/{triple}"):
            if suffix and version.split(".")[0] != suffix.group(1).split(".")[0]:
                continue
            try:
                content = root.read(f"{base}/{triple}/{version}/crtbegin.o", 1 << 20)
            except OSError:
                continue
            found = re.search(rb"GCC: \([^\x00]{0,200}?\) (\d{1,2}\.\d{1,2}\.\d{1,2})", content)
            if found:
                versions.append(found.group(1).decode())
    # Two compilers of one prefix, and a name that does not tell which: nothing is guessed.
    return versions[0] if len(set(versions)) == 1 else None


def _clang_version(root: Root, real: str) -> Optional[str]:
    """Return clang's version from the folder of its headers, where that is named by all three parts."""
    found = [
        name
        for name in _folders(root, real.rsplit("/", 2)[0] + "/lib/clang")
        if re.match(r"\d+\.\d+\.\d+\Z", name)
    ]
    return found[0] if len(found) == 1 else None


def _folders(root: Root, path: str) -> List[str]:
    try:
        return [entry.name for entry in root.scan(path) if entry.is_dir][:64]
    except OSError:
        return []
