"""Which Python environment is meant, and the folders its packages are imported from, in order.

Nothing is run: the interpreter's own start-up (getpath and the site module: pyvenv.cfg, user site,
PYTHONPATH, .pth files, Debian's dist-packages) is followed on paper.
https://docs.python.org/3/library/sys_path_init.html, https://docs.python.org/3/library/site.html
"""

import re
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from envlock.probe.root import Root, try_read

_PYTHONS = ("python3", "python", "pypy3", "pypy")
_VERSIONED = re.compile(r"(python|pypy)(\d+\.\d+)(t?)d?\Z")
_SMALL = 1024 * 1024
"""Bytes of a .pth file, pyvenv.cfg or shim at most: they are a few lines."""
_FOLDER_LIMIT = 4096
"""Folders that one environment may put on its path at most."""
_OPT_LIMIT = 256
"""Folders of /opt that are looked into at most."""
_PREFIX_LIMIT = 16
"""Conda prefixes beside the environment that are told of at most."""
_MAPPED = r"""['"]([\w.]+)['"]\s*:\s*['"](/[^'"\n]+)['"]"""


class TargetError(Exception):
    """The environment that was asked for is not there; the text is one sentence."""


class SitePath(NamedTuple):
    """One folder that modules are imported from, and what put it there."""

    path: str
    origin: str
    """"PYTHONPATH", "site" (the environment's own), "user" (~/.local), "base" (the system's, seen from a
    venv), "pth" (a .pth file added it) or "editable" (mapped by an editable install's finder: the modules
    in ``via`` are imported from here, but the folder itself is not on sys.path)."""
    via: str = ""
    """The .pth or finder file, for "pth" and "editable"."""
    added_to: str = ""
    """The folder that this file lies in."""


class Target(NamedTuple):
    """A Python environment."""

    prefix: str
    executable: str
    kind: str
    """"venv", "conda" or "system"."""
    site_packages: List[SitePath]
    base_prefix: str
    minor: str
    """"3.11"; "" where it cannot be told."""
    implementation: str
    """"CPython" or "PyPy"."""
    free_threaded: bool
    config: Dict[str, str]
    """pyvenv.cfg, keys in lower case; empty when it is no venv."""
    base_executable: str
    """The interpreter's binary, every link followed."""
    user_site: Optional[str]
    """The user's site-packages if it is on sys.path, "" if not; None where the home folder is not known."""
    passed_over: Tuple[str, ...] = ()
    """The variables that name an environment in use where no Python is; this one was taken instead."""

    @property
    def library(self) -> str:
        """The standard library's folder."""
        return self.base_prefix.rstrip("/") + "/lib/" + _folder_name(self)

    @property
    def path(self) -> List[str]:
        """The folders to read packages from, in the order of sys.path; finders' folders are left out."""
        return [site.path for site in self.site_packages if site.origin != "editable"]


class _Interpreter(NamedTuple):
    """What the files around an executable say about it."""

    executable: str
    real: str
    prefix: str
    base_prefix: str
    minor: str
    implementation: str
    free_threaded: bool
    config: Dict[str, str]


def find_target(root: Root, python: Optional[str] = None, prefix: Optional[str] = None) -> Optional[Target]:
    """Return the environment in use, or the one that ``prefix`` or ``python`` names; None if there is none.

    The order: prefix, python (a path, or a name on PATH), VIRTUAL_ENV, CONDA_PREFIX, the first python3 or
    python on PATH. Raises TargetError when the prefix or python that was named is not there.
    """
    if prefix is not None:
        return _complete(root, _named_prefix(root, prefix))
    if python is not None:
        return _complete(root, _inspect(root, _named_python(root, python)))
    passed_over: Tuple[str, ...] = ()
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        active = root.environ.get(variable, "").rstrip("/")
        executable = _python_under(root, active) if active.startswith("/") else None
        if executable:
            return _complete(root, _inspect(root, executable))._replace(passed_over=passed_over)
        passed_over += (variable,) if active else ()
    executable = _on_path(root, _PYTHONS[:2])
    return (
        _complete(root, _inspect(root, executable))._replace(passed_over=passed_over) if executable else None
    )


def prefixes_beside(root: Root, target: Optional[Target]) -> List[str]:
    """Return the conda prefixes that are not the target's own, links resolved, in order of name.

    They are the active one (CONDA_PREFIX), those whose programs are on PATH, the one whose Python a venv was made
    from, and those in /opt, where images and clusters have them.
    """
    places = [root.environ.get("CONDA_PREFIX", ""), target.base_prefix if target is not None else ""]
    for folder in root.environ.get("PATH", "").split(":"):
        above, _, name = folder.rstrip("/").rpartition("/")
        places += [above] if name in ("bin", "condabin") else []
    places += ["/opt/" + name for name in _names(root, "/opt")[:_OPT_LIMIT]]
    found = {root.realpath(place.rstrip("/")) for place in places if place.startswith("/")}
    if target is not None and target.kind == "conda":
        found.discard(root.realpath(target.prefix))
    return sorted(place for place in found if root.is_dir(_join(place, "conda-meta")))[:_PREFIX_LIMIT]


def _named_prefix(root: Root, prefix: str) -> _Interpreter:
    folder = _absolute(root, prefix).rstrip("/") or "/"
    if not root.is_dir(folder):
        raise TargetError(f"prefix {prefix} is not a folder")
    executable = _python_under(root, folder)
    if executable is None:
        raise TargetError(f"no Python under prefix {prefix}: {_join(folder, 'bin/python3')} is not there")
    return _inspect(root, executable)


def _named_python(root: Root, python: str) -> str:
    if "/" not in python:
        executable = _on_path(root, (python,))
        if executable is None:
            raise TargetError(f"{python} is not on PATH")
        return executable
    path = _absolute(root, python)
    if root.is_file(path):
        return path
    if root.is_dir(path):
        raise TargetError(f"{python} is a folder, not an interpreter; name it with --prefix")
    raise TargetError(f"interpreter {python} is not there")


def _python_under(root: Root, folder: str) -> Optional[str]:
    for name in _PYTHONS:
        path = _join(folder, "bin/" + name)
        if root.is_file(path):
            return path
    for name in sorted(_names(root, _join(folder, "bin")), key=_natural, reverse=True):
        path = _join(folder, "bin/" + name)
        if _VERSIONED.match(name) and root.is_file(path):
            return path
    return None


# ---- the interpreter on PATH, pyenv's stand-ins resolved ------------------------------------------------


def _on_path(root: Root, names: Tuple[str, ...]) -> Optional[str]:
    search = root.environ.get("PATH", "")
    if not search and root.kind != "live":
        search = "/usr/local/bin:/usr/bin"
    for folder in search.split(":"):
        for name in names:
            path = folder.rstrip("/") + "/" + name
            if not folder.startswith("/") or not root.is_file(path):
                continue
            resolved = _resolve_script(root, path, name)
            if resolved:
                return resolved
    return None


def _resolve_script(root: Root, path: str, name: str) -> Optional[str]:
    """Return the interpreter behind a name on PATH; a script that is no pyenv shim cannot be told."""
    try:
        with root.open(path) as file:
            start = file.read(4096)
    except OSError:
        return path
    if not start.startswith(b"#!"):
        return path
    if b"pyenv" not in start:
        return None
    home = root.environ.get("PYENV_ROOT", "") or path.rsplit("/", 2)[0]
    for version in _pyenv_versions(root, home):
        folder = _pyenv_folder(root, home, version)
        if folder is None:
            continue
        for candidate in (name, *_PYTHONS):
            if root.is_file(_join(folder, "bin/" + candidate)):
                return _join(folder, "bin/" + candidate)
    return None


def _pyenv_versions(root: Root, home: str) -> List[str]:
    """Return the names that pyenv would try: PYENV_VERSION, .python-version upward, the global version."""
    chosen = root.environ.get("PYENV_VERSION", "")
    if chosen:
        return chosen.split(":")
    folder = root.environ.get("PYENV_DIR", "") or root.environ.get("PWD", "")
    files = []
    while folder.startswith("/"):
        files.append(_join(folder, ".python-version"))
        if folder == "/":
            break
        folder = folder.rstrip("/").rpartition("/")[0] or "/"
    for path in [*files[:64], _join(home, "version")]:
        text = try_read(root, path, _SMALL)
        words = [line.split("#")[0].strip() for line in (text or "").splitlines()]
        versions = [word for line in words for word in line.split()]
        if versions:
            return versions
    return []


def _pyenv_folder(root: Root, home: str, version: str) -> Optional[str]:
    if version == "system" or version.startswith((".", "/")):
        return None
    exact = _join(home, "versions/" + version)
    if root.is_dir(exact):
        return exact
    # pyenv 2.3: "3.11" stands for the newest 3.11.x that is installed.
    newest = [name for name in _names(root, _join(home, "versions")) if name.startswith(version + ".")]
    return _join(home, "versions/" + max(newest, key=_natural)) if newest else None


# ---- from an executable to its prefix -------------------------------------------------------------------


def _inspect(root: Root, executable: str) -> _Interpreter:
    folder = executable.rpartition("/")[0]
    for place in (folder, folder.rpartition("/")[0]):
        text = try_read(root, _join(place, "pyvenv.cfg"), _SMALL)
        if text is not None:
            return _inspect_venv(root, executable, folder.rpartition("/")[0], parse_pyvenv(text))
    real = root.realpath(executable)
    minor, implementation, free = _kind_of_name(real)
    prefix = _landmark(root, real, minor) or real.rpartition("/")[0].rpartition("/")[0] or "/"
    if not minor:
        minor, implementation, free = _only_library(root, prefix)
    elif not free and not root.is_dir(_join(prefix, f"lib/{implementation}{minor}")):
        free = root.is_dir(_join(prefix, f"lib/{implementation}{minor}t"))
    return _Interpreter(executable, real, prefix, prefix, minor, implementation, free, {})


def _inspect_venv(root: Root, executable: str, prefix: str, config: Dict[str, str]) -> _Interpreter:
    base = _base_of_venv(root, executable, config)
    minor, implementation, free = _only_library(root, prefix)
    if not minor:
        minor, implementation, free = _kind_of_name(base)
    if not minor:
        found = re.match(r"\d+\.\d+", config.get("version_info") or config.get("version") or "")
        minor = found.group() if found else ""
    home = config.get("home", "")
    base_prefix = _landmark(root, base, minor) or (
        home.rpartition("/")[0] if home.startswith("/") else prefix
    )
    return _Interpreter(executable, base, prefix, base_prefix or "/", minor, implementation, free, config)


def _base_of_venv(root: Root, executable: str, config: Dict[str, str]) -> str:
    """Return the binary that a venv was made from: through its link, or what pyvenv.cfg names."""
    real = root.realpath(executable)
    home = config.get("home", "").rstrip("/")
    if root.is_file(real) and not real.startswith(executable.rpartition("/")[0] + "/"):
        return real
    named = [config.get("base-executable", ""), config.get("executable", "")]
    for path in [*named, *(home + "/" + name for name in (executable.rpartition("/")[2], *_PYTHONS))]:
        if path.startswith("/") and root.is_file(path):
            return root.realpath(path)
    return real


def parse_pyvenv(text: str) -> Dict[str, str]:
    """Return the settings of a pyvenv.cfg, keys in lower case (the site module's reading of PEP 405)."""
    config = {}
    for line in text.splitlines()[:200]:
        key, equals, value = line.partition("=")
        if equals:
            config[key.strip().lower()] = value.strip()
    return config


def _kind_of_name(executable: str) -> Tuple[str, str, bool]:
    found = _VERSIONED.match(executable.rpartition("/")[2])
    return (found.group(2), found.group(1), bool(found.group(3))) if found else ("", "python", False)


def _only_library(root: Root, prefix: str) -> Tuple[str, str, bool]:
    """Tell the version from lib/pythonX.Y, where there is only one such folder."""
    names = [name for name in _names(root, _join(prefix, "lib")) if _VERSIONED.match(name)]
    kept = [name for name in names if root.is_dir(_join(prefix, f"lib/{name}/site-packages"))] or names
    return _kind_of_name(kept[0]) if len(kept) == 1 else ("", "python", False)


def _landmark(root: Root, executable: str, minor: str) -> Optional[str]:
    """Return the nearest folder upward that holds a standard library, as getpath looks for os.py."""
    folder = executable.rpartition("/")[0]
    while folder:
        folder = folder.rpartition("/")[0]
        for library in ("lib", "lib64"):
            names = [f"python{minor}", f"python{minor}t", f"pypy{minor}"] if minor else []
            if not names:
                names = [name for name in _names(root, f"{folder}/{library}") if _VERSIONED.match(name)]
            if any(root.is_file(f"{folder}/{library}/{name}/os.py") for name in names):
                return folder or "/"
    return None


# ---- sys.path -------------------------------------------------------------------------------------------


def _complete(root: Root, found: _Interpreter) -> Target:
    implementation = "PyPy" if found.implementation == "pypy" else "CPython"
    isolated = bool(found.config) and found.config.get("include-system-site-packages", "").lower() != "true"
    user_site = "" if isolated else _user_site(root, found)
    kind = "venv" if found.config else "conda" if root.is_dir(_join(found.prefix, "conda-meta")) else "system"
    path = _SearchPath(root)
    own = {root.realpath(folder) for folder in _own_folders(root, found.prefix, found)}
    for folder in _pythonpath(root):
        path.add(SitePath(folder, "site" if root.realpath(folder) in own else "PYTHONPATH"))
    if found.config:
        path.add_sites(_own_folders(root, found.prefix, found), "site")
    if user_site:
        path.add_sites([user_site], "user")
    if not isolated:
        path.add_sites(_own_folders(root, found.base_prefix, found), "base" if found.config else "site")
    return Target(
        prefix=found.prefix,
        executable=found.executable,
        kind=kind,
        site_packages=path.folders + path.mapped,
        base_prefix=found.base_prefix,
        minor=found.minor,
        implementation=implementation,
        free_threaded=found.free_threaded,
        config=found.config,
        base_executable=found.real,
        user_site=user_site,
    )


def _folder_name(found: "_Interpreter | Target") -> str:
    name = "pypy" if found.implementation.lower() == "pypy" else "python"
    return f"{name}{found.minor}{'t' if found.free_threaded else ''}"


def _own_folders(root: Root, prefix: str, found: _Interpreter) -> List[str]:
    name = _folder_name(found)
    if not found.minor:
        return []
    if prefix == "/usr" and root.is_dir("/usr/lib/python3/dist-packages"):
        # Debian's site.py: pip's packages under /usr/local, dpkg's under /usr/lib/python3.
        return [
            f"/usr/local/lib/{name}/dist-packages",
            "/usr/lib/python3/dist-packages",
            f"/usr/lib/{name}/dist-packages",
        ]
    folders = [_join(prefix, f"{library}/{name}/site-packages") for library in ("lib64", "lib")]
    if root.realpath(folders[0]) == root.realpath(folders[1]):
        del folders[0]
    if prefix == "/usr" and "RPM_BUILD_ROOT" in (try_read(root, f"/usr/lib64/{name}/site.py", _SMALL) or ""):
        # Fedora's and RHEL's site.py: pip's packages go under /usr/local.
        folders = [_join("/usr/local", folder[len("/usr/") :]) for folder in folders] + folders
    if found.implementation == "pypy":
        folders.append(_join(prefix, "site-packages"))
    return folders


def _user_site(root: Root, found: _Interpreter) -> Optional[str]:
    if root.environ.get("PYTHONNOUSERSITE"):
        return ""
    below = f"lib/{_folder_name(found)}/site-packages"
    base = root.environ.get("PYTHONUSERBASE", "")
    home = root.environ.get("HOME", "")
    if base or home:
        folder = _join(base or _join(home, ".local"), below)
        return folder if root.is_dir(folder) else ""
    homes = ["/root", *("/home/" + name for name in _names(root, "/home")[:256])]
    known = any(root.is_dir(_join(home, ".local/" + below)) for home in homes)
    return None if known else ""


def _pythonpath(root: Root) -> Iterator[str]:
    for entry in root.environ.get("PYTHONPATH", "").split(":"):
        if entry:
            yield _absolute(root, entry)


class _SearchPath:
    """sys.path as it grows: no folder twice, none that is not there."""

    def __init__(self, root: Root) -> None:
        self.folders: List[SitePath] = []
        self.mapped: List[SitePath] = []
        self._root = root
        self._seen: Dict[str, None] = {}

    def add(self, site: SitePath) -> bool:
        real = self._root.realpath(site.path)
        if real in self._seen or len(self._seen) >= _FOLDER_LIMIT or not self._root.exists(real):
            return False
        self._seen[real] = None
        self.folders.append(site)
        return True

    def add_sites(self, folders: List[str], origin: str) -> None:
        """Add site folders, each followed by what its .pth files add (site.addsitedir)."""
        for folder in folders:
            self.add(SitePath(folder, origin))
            # A folder that PYTHONPATH named already has its .pth files read all the same.
            if self._root.is_dir(folder):
                for name in _names(self._root, folder):
                    if name.endswith(".pth") and not name.startswith("."):
                        self._add_pth(folder, name)

    def _add_pth(self, folder: str, name: str) -> None:
        text = try_read(self._root, _join(folder, name), _SMALL)
        for raw in (text or "").lstrip("\ufeff").splitlines():
            line = raw.rstrip()
            if line.startswith(("import ", "import\t")):
                self._add_finder(folder, line)
            elif line and not line.startswith("#") and "\0" not in line:
                path = _normal(line if line.startswith("/") else _join(folder, line))
                self.add(SitePath(path, "pth", _join(folder, name), folder))

    def _add_finder(self, folder: str, line: str) -> None:
        """Read setuptools' finder for editable installs: a dict of modules and where they lie."""
        found = re.match(r"import\s+(__editable___\w+_finder)\b", line)
        if not found:
            return
        file = _join(folder, found.group(1) + ".py")
        text = try_read(self._root, file, _SMALL) or ""
        mapping = re.search(r"^MAPPING\b[^=\n]*=\s*(\{[^}]*\})", text, re.M)
        for module, place in re.findall(_MAPPED, mapping.group(1) if mapping else "")[:256]:
            above = _normal(place)
            for _ in module.split("."):
                above = above.rpartition("/")[0]
            site = SitePath(above or "/", "editable", file, folder)
            if site not in self.mapped and len(self.mapped) < _FOLDER_LIMIT:
                self.mapped.append(site)


# ---- small things ---------------------------------------------------------------------------------------


def _join(folder: str, name: str) -> str:
    return folder.rstrip("/") + "/" + name


def _absolute(root: Root, path: str) -> str:
    """Return a path as the process that owns the environment sees it."""
    return _normal(path if path.startswith("/") else _join(root.environ.get("PWD", "/"), path))


def _normal(path: str) -> str:
    """Take "." and ".." out of an absolute path, as os.path.normpath does."""
    parts: List[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _names(root: Root, folder: str) -> List[str]:
    try:
        return [entry.name for entry in root.scan(folder)]
    except OSError:
        return []


def _natural(name: str) -> List[Tuple[int, str]]:
    """Sort key that puts 3.9 before 3.11."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
