"""Which file ld.so would load for a library's name, worked out from the files alone.

The order is that of glibc's elf/dl-load.c (_dl_map_object) and of ld.so(8): DT_RPATH of the object and of
those that loaded it, LD_LIBRARY_PATH, the object's own DT_RUNPATH, /etc/ld.so.cache, the default folders.
The cache's format is that of glibc's sysdeps/generic/dl-cache.h. Nothing is loaded or run.
"""

import re
import struct
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from envlock.probe.cache import FileCache
from envlock.probe.elf import Elf, ElfError, read_elf
from envlock.probe.root import Root, try_read

OBJECT_LIMIT = 4096
"""Objects in one process at most; a big framework has about two hundred."""
_FOLDER_LIMIT = 512
"""Folders in one search path at most."""
_CACHE_LIMIT = 64 * 1024 * 1024
_CACHE_ENTRIES = 262_144

_MULTIARCH = {62: "x86_64-linux-gnu", 3: "i386-linux-gnu", 183: "aarch64-linux-gnu", 40: "arm-linux-gnueabihf",
              21: "powerpc64le-linux-gnu", 243: "riscv64-linux-gnu", 22: "s390x-linux-gnu"}  # fmt: skip
"""e_machine -> Debian's folder for it."""
_PLATFORM = {62: "x86_64", 3: "i686", 183: "aarch64", 40: "v7l", 243: "riscv64", 22: "z15"}
"""e_machine -> AT_PLATFORM of the usual machines, for $PLATFORM."""
_CACHE_FLAGS = {62: 0x0300, 3: 0x0000, 183: 0x0A00, 40: 0x0900, 21: 0x0500, 243: 0x1000, 22: 0x0400}
"""e_machine -> the architecture in a cache entry's flags (dl-cache.h, FLAG_X8664_LIB64 and its like)."""
_HWCAP_EXTENSION = 1 << 62
_HWCAPS_MAGIC = 0xEAA42174
_TOKEN = re.compile(r"\$(?:\{(ORIGIN|LIB|PLATFORM)\}|(ORIGIN|LIB|PLATFORM)(?![A-Za-z0-9_]))")


class Found(NamedTuple):
    """A file that ld.so would load, and what led to it."""

    path: str
    """The file; links in its folder are resolved, its name is as searched for."""
    how: str
    """For example "RPATH $ORIGIN/../../nvidia/cudnn/lib of libtorch_cuda.so"."""


class Missing(NamedTuple):
    """A library that the search does not find."""

    soname: str
    needed_by: str
    """The path of the object that needs it."""


class Loaded:
    """One object in a process."""

    __slots__ = ("elf", "how", "loader", "name", "path")

    def __init__(self, path: str, how: str, elf: Elf, name: str, loader: Optional["Loaded"]) -> None:
        self.path = path
        self.how = how
        self.elf = elf
        self.name = name
        """The name that it was asked for by: a soname, or a path."""
        self.loader = loader
        """The object that needed it first; its RPATH counts for this one as well."""

    @property
    def file(self) -> str:
        """The file's name without its folder."""
        return self.path.rpartition("/")[2]


class CacheEntry(NamedTuple):
    """One line of ld.so.cache."""

    path: str
    flags: int
    hwcap: str
    """The glibc-hwcaps folder that it is for ("x86-64-v3"); "" for every machine, "?" for an old kind."""


class Opened(NamedTuple):
    """What one dlopen would bring into the process."""

    objects: List[Loaded]
    """The object itself, then what it newly brings, in the order of loading."""
    missing: List[Missing]
    """What is not found; a real dlopen fails at the first of them."""


class Loader:
    """The search order of one machine and environment; knows files, not processes."""

    def __init__(self, root: Root, machine: int = 62, bits: int = 64, interpreter: str = "") -> None:
        self._root = root
        self.machine = machine
        self.bits = bits
        self._foreign = _own_library_folder(root, interpreter)
        self.remembered: Optional[FileCache] = None
        """Where headers that were read before are kept, if anywhere."""
        self._elf: Dict[str, Optional[Elf]] = {}
        self._real: Dict[str, Optional[str]] = {}
        self._found: Dict[Tuple[str, str], Optional[str]] = {}
        self._listed: Dict[Tuple[str, str, str], List[Tuple[str, str]]] = {}
        self._cache: Optional[Dict[str, List[CacheEntry]]] = None
        self._defaults: Optional[List[Tuple[str, str]]] = None
        self._levels: Optional[List[str]] = None
        self.library_path = split_library_path(root.environ.get("LD_LIBRARY_PATH", ""))
        """The entries of LD_LIBRARY_PATH as written; "" means the working folder."""
        self.preload = _preloads(root)
        """What is loaded before everything else, each with the place that says so."""

    def elf(self, path: str) -> Optional[Elf]:
        """Return what a file's ELF headers say to the loader, or None where it is none of this architecture.

        That is no table of the file itself: sections, segments and the dynamic table may be left out.
        """
        if path not in self._elf:
            self._elf[path] = self._read(path)
        return self._elf[path]

    def _read(self, path: str) -> Optional[Elf]:
        try:
            if self.remembered is None:
                told = _headers(self._root, path)
            else:
                told = self.remembered.remember("headers", path, lambda: _headers(self._root, path))
        except (OSError, ElfError):
            return None
        machine, bits, interpreter, needed, soname, rpath, runpath, no_default = told
        if (machine, bits) != (self.machine, self.bits):
            return None
        return Elf(
            machine,
            bits,
            "",
            0,
            interpreter,
            tuple(needed),
            soname,
            rpath,
            runpath,
            no_default,
            (0, 0, 0, 0),
            (),
            {},
        )

    def resolve(
        self, soname: str, chain: Sequence[Loaded] = (), main: Optional[Loaded] = None
    ) -> Optional[Found]:
        """Return the file for a name without a slash, or for a path; None where ld.so would not find it.

        ``chain`` is the object that needs it, then the one that loaded that, and so on.
        """
        if "/" in soname:
            folder, _, name = self._expand(soname, chain[0] if chain else main).rpartition("/")
            real = self._folder(folder or "/")
            path = f"{real.rstrip('/')}/{name}" if real else ""
            return Found(path, "opened by its path") if real and self.elf(path) else None
        for folder, how in self._search(soname, chain, main):
            found = self._in_folder(folder, soname)
            if found:
                return Found(found, how)
        return None

    def _search(
        self, soname: str, chain: Sequence[Loaded], main: Optional[Loaded]
    ) -> Iterator[Tuple[str, str]]:
        """Yield folders in ld.so's order, each with what names it; and files out of the cache."""
        owner = chain[0] if chain else None
        if owner is None or owner.elf.runpath is None:
            line = list(chain) + ([main] if main is not None and main not in chain else [])
            for one in line:
                if one.elf.runpath is None and one.elf.rpath:
                    yield from self._entries("RPATH", one.elf.rpath, one)
        for number, entry in enumerate(self.library_path, 1):
            yield (
                self._expand(entry, main),
                f"LD_LIBRARY_PATH entry {number} ({entry or 'the working folder'})",
            )
        if owner is not None and owner.elf.runpath:
            yield from self._entries("RUNPATH", owner.elf.runpath, owner)
        holder = owner or main
        if holder is not None and holder.elf.no_default:
            return
        cached = self._cached(soname)
        if cached is not None:
            yield cached, "/etc/ld.so.cache"
        yield from self.default_folders()

    def _entries(self, kind: str, text: str, owner: Loaded) -> List[Tuple[str, str]]:
        """Return the folders of an object's RPATH or RUNPATH, each with what to call it."""
        key = (kind, text, owner.path)
        if key not in self._listed:
            self._listed[key] = [
                (self._expand(entry, owner), f"{kind} {entry or '(empty)'} of {owner.file}")
                for entry in text.split(":")[:_FOLDER_LIMIT]
            ]
        return self._listed[key]

    def _in_folder(self, folder: str, soname: str) -> Optional[str]:
        """Return the file that a folder, or a line of the cache, gives for a name.

        It is looked for once: every framework's search passes through the same folders.
        """
        key = (folder, soname)
        if key not in self._found:
            self._found[key] = self._look_in(folder, soname)
        return self._found[key]

    def _look_in(self, folder: str, soname: str) -> Optional[str]:
        if folder.startswith("file:"):
            real = self._folder(folder[5:].rpartition("/")[0] or "/")
            path = f"{real.rstrip('/')}/{folder.rpartition('/')[2]}" if real else ""
            return path if path and self.elf(path) else None
        real = self._folder(folder)
        if real is None:
            return None
        for level in self.cpu_levels() if self._folder(folder + "/glibc-hwcaps") else ():
            path = f"{real.rstrip('/')}/glibc-hwcaps/{level}/{soname}"
            if self._root.is_file(path) and self.elf(path):
                return path
        path = f"{real.rstrip('/')}/{soname}"
        return path if self._root.is_file(path) and self.elf(path) else None

    def _folder(self, folder: str) -> Optional[str]:
        """Return a folder with its links resolved, or None where it is not there."""
        if folder not in self._real:
            known = folder.startswith("/") and self._root.is_dir(folder)
            self._real[folder] = self._root.realpath(folder) if known else None
        return self._real[folder]

    def _expand(self, entry: str, owner: Optional[Loaded]) -> str:
        """Put folders in the place of $ORIGIN, $LIB and $PLATFORM; "" and relative ones start at the working folder."""

        def replace(match: "re.Match[str]") -> str:
            name = match.group(1) or match.group(2)
            if name == "ORIGIN":
                return owner.path.rpartition("/")[0] if owner is not None else "/nonexistent"
            return self.lib_name() if name == "LIB" else _PLATFORM.get(self.machine, "")

        path = _TOKEN.sub(replace, entry) if "$" in entry else entry
        if not path.startswith("/"):
            path = self._root.environ.get("PWD", "/nonexistent") + "/" + path
        return path

    # ---- what the machine's own loader was built with -----------------------------------------------

    def lib_name(self) -> str:
        """Return what $LIB stands for: "lib/x86_64-linux-gnu" on Debian, "lib64" on Fedora, or "lib"."""
        multiarch = _MULTIARCH.get(self.machine, "")
        if multiarch and self._root.is_dir("/usr/lib/" + multiarch):
            return "lib/" + multiarch
        if self.bits == 64 and self._root.exists("/usr/lib64/libc.so.6"):
            return "lib64"
        return "lib"

    def default_folders(self) -> List[Tuple[str, str]]:
        """Return the folders that are searched last, each with what to call it.

        A folder or image without ld.so.cache is read as if ldconfig had been run over its ld.so.conf, as
        container engines do at start.
        """
        if self._defaults is None:
            if self._foreign:
                self._defaults = [(self._foreign, f"default folder {self._foreign} of its own ld.so")]
                return self._defaults
            folders = []
            if self._root.kind != "live" and not self._root.is_file("/etc/ld.so.cache"):
                folders += [
                    (folder, f"{folder} of /etc/ld.so.conf") for folder in read_ld_so_conf(self._root)
                ]
            name = self.lib_name()
            names = [f"/{name}", f"/usr/{name}"]
            if name.startswith("lib/"):
                names += ["/lib", "/usr/lib"]
            self._defaults = folders + [(folder, f"default folder {folder}") for folder in names]
        return self._defaults

    def cpu_levels(self) -> List[str]:
        """Return the glibc-hwcaps folders that this CPU may use, best first; none where no CPU is known."""
        if self._levels is None:
            self._levels = []
            if self.machine == 62:
                from envlock.probe.host import CPU_LEVELS

                found = re.search(
                    r"^flags\s*:(.*)$", try_read(self._root, "/proc/cpuinfo", 1 << 22) or "", re.M
                )
                flags = set((found.group(1) if found else "").split())
                for level, needed in CPU_LEVELS:
                    if not flags.issuperset(needed.split()):
                        break
                    self._levels.insert(0, level)
                self._levels = [level for level in self._levels if level != "x86-64-v1"]
        return self._levels

    # ---- ld.so.cache ----------------------------------------------------------------------------------

    def cache(self) -> Dict[str, List[CacheEntry]]:
        """Return ld.so.cache: soname -> its lines for this architecture, in order; empty where there is none."""
        if self._cache is None:
            self._cache = {}
            if not self._foreign:
                try:
                    content = self._root.read("/etc/ld.so.cache", _CACHE_LIMIT)
                except OSError:
                    content = b""
                wanted = _CACHE_FLAGS.get(self.machine, -1)
                for soname, entry in parse_cache(content):
                    if entry.flags & 0xFF00 == wanted and entry.flags & 0xFF in (1, 3):
                        self._cache.setdefault(soname, []).append(entry)
        return self._cache

    def _cached(self, soname: str) -> Optional[str]:
        lines = self.cache().get(soname, ())
        for level in self.cpu_levels() if any(line.hwcap for line in lines) else ():
            for line in lines:
                if line.hwcap == level:
                    return "file:" + line.path
        return next(("file:" + line.path for line in lines if not line.hwcap), None)


class Process:
    """Objects as they would be loaded, one dlopen after the other, into one process.

    Everything stays loaded: a soname that is there already is not searched for again, as in ld.so.
    """

    def __init__(self, loader: Loader, main: str = "") -> None:
        self._loader = loader
        self._root = loader._root
        self.objects: List[Loaded] = []
        self.missing: List[Missing] = []
        self.main: Optional[Loaded] = None
        self._names: Dict[str, Loaded] = {}
        self._files: Dict[Tuple[int, int], Loaded] = {}
        self._expanded: Set[int] = set()
        elf = loader.elf(main) if main else None
        if elf is not None:
            # $ORIGIN of a program is that of /proc/self/exe, links resolved.
            self.main = self._add(Loaded(self._root.realpath(main), "the program", elf, main, None))
            program = loader.elf(elf.interpreter) if elf.interpreter else None
            if program is not None:
                self._add(
                    Loaded(
                        self._root.realpath(elf.interpreter),
                        "the program's ld.so",
                        program,
                        elf.interpreter,
                        None,
                    )
                )
            queue = [self.main]
            for name, place in loader.preload:
                found = self._need(name, self.main, place + ": ")
                if found is not None and found not in queue:
                    queue.append(found)
            self.missing = []  # ld.so only warns of a preload that is not there
            self._breadth_first(queue)

    def find(self, soname: str) -> Optional[Loaded]:
        """Return the object that is loaded under a name."""
        return self._names.get(soname)

    def loaded(self, pattern: str) -> Optional[Loaded]:
        """Return the first object whose file name starts with a pattern."""
        return next((one for one in self.objects if re.match(pattern, one.file)), None)

    def real(self, one: Loaded) -> str:
        """Return the name of an object's file, links resolved."""
        return self._root.realpath(one.path).rpartition("/")[2]

    def open(self, name: str, caller: Optional[Loaded] = None, strict: bool = False) -> Opened:
        """Load an object and all it needs, as dlopen(name) called from ``caller`` (the program if None).

        What is missing is recorded and gone without, as if it were there and needed nothing. With
        ``strict`` nothing stays loaded if something is missing, as with the real dlopen.
        """
        before = (list(self.objects), dict(self._names), dict(self._files), set(self._expanded))
        first, self.missing = len(self.objects), []
        top = self._need(name, caller or self.main)
        if top is not None:
            self._breadth_first([top])
        opened = Opened(self.objects[first:], self.missing)
        if strict and self.missing:
            self.objects, self._names, self._files, self._expanded = before
        return opened

    def _breadth_first(self, queue: List[Loaded]) -> None:
        """Load what the objects need, and what that needs, level by level (dl-deps.c); each object once."""
        for one in queue:
            if id(one) in self._expanded:
                continue
            self._expanded.add(id(one))
            for soname in one.elf.needed:
                found = self._need(soname, one)
                if found is not None and id(found) not in self._expanded:
                    queue.append(found)

    def _need(self, soname: str, loader: Optional[Loaded], prefix: str = "") -> Optional[Loaded]:
        held = self._names.get(soname)
        if held is not None:
            return held
        chain: List[Loaded] = []
        one = loader
        while one is not None and len(chain) < OBJECT_LIMIT:
            chain.append(one)
            one = one.loader
        found = self._loader.resolve(soname, chain, self.main)
        elf = self._loader.elf(found.path) if found is not None else None
        if found is None or elf is None or len(self.objects) >= OBJECT_LIMIT:
            self.missing.append(Missing(soname, loader.path if loader is not None else ""))
            return None
        return self._add(Loaded(found.path, prefix + found.how, elf, soname, loader))

    def _add(self, new: Loaded) -> Loaded:
        """Enter an object under all its names; the same file is never loaded twice."""
        try:
            stat = self._root.stat(new.path)
            identity = (stat.device, stat.inode)
        except OSError:
            identity = (-1, len(self.objects))
        held = self._files.get(identity)
        if held is None:
            held = self._files[identity] = new
            self.objects.append(new)
        for name in (new.name, new.path, new.elf.soname):
            if name:
                self._names.setdefault(name, held)
        return held


def load(
    root: Root, path: str, main: str = "", preloads: Sequence[str] = (), machine: int = 62, bits: int = 64
) -> Dict[str, Found]:
    """Return what loading a file brings into a process, by soname, in the order of loading.

    ``main`` is the program (a Python) and ``preloads`` are the absolute files that it loads before.
    """
    process = Process(Loader(root, machine, bits), main)
    for preload in preloads:
        process.open(preload)
    process.open(path)
    loaded: Dict[str, Found] = {}
    for one in process.objects:
        loaded.setdefault(one.elf.soname or one.file, Found(one.path, one.how))
    return loaded


def _headers(root: Root, path: str) -> List[Any]:
    """Return what the loader needs to know of an ELF file, as plain values; raises OSError and ElfError."""
    with root.open(path) as file:
        elf = read_elf(file)
    return [
        elf.machine,
        elf.bits,
        elf.interpreter,
        list(elf.needed),
        elf.soname,
        elf.rpath,
        elf.runpath,
        elf.no_default,
    ]


def split_library_path(text: str) -> List[str]:
    """Split LD_LIBRARY_PATH as ld.so does: at colons and semicolons; an empty entry is the working folder."""
    return re.split(r"[:;]", text)[:_FOLDER_LIMIT] if text else []


def read_ld_so_conf(root: Root, path: str = "/etc/ld.so.conf") -> List[str]:
    """Return the folders that ldconfig would index (ldconfig(8)), includes followed, in order."""
    folders: List[str] = []
    pending: List[str] = [path]
    done: Set[str] = set()
    while pending and len(done) < 256:
        current = pending.pop(0)
        if current in done:
            continue
        done.add(current)
        for raw in (try_read(root, current, 1 << 20) or "").splitlines():
            line = raw.split("#")[0].strip()
            words = line.split()
            if words and words[0] == "include":
                for pattern in words[1:]:
                    pending.extend(_glob(root, current, pattern))
            elif line.startswith("/"):
                # "folder=type" is the old way to state an architecture.
                folders.extend(
                    part.partition("=")[0] for part in re.split(r"[\s:,]+", line) if part.startswith("/")
                )
    return list(dict.fromkeys(folders))[:_FOLDER_LIMIT]


def _glob(root: Root, current: str, pattern: str) -> List[str]:
    import fnmatch

    if not pattern.startswith("/"):
        pattern = current.rpartition("/")[0] + "/" + pattern
    folder, _, name = pattern.rpartition("/")
    try:
        entries = root.scan(folder or "/")
    except OSError:
        return []
    return [
        f"{folder}/{entry.name}"
        for entry in entries
        if entry.is_file and fnmatch.fnmatchcase(entry.name, name)
    ]


def parse_cache(content: bytes) -> Iterator[Tuple[str, CacheEntry]]:
    """Yield (soname, entry) of an ld.so.cache, in its order; of a damaged one what can be read.

    A file from before glibc 2.32 has an older table in front ("ld.so-1.7.0"), which is skipped.
    """
    start = 0
    if content.startswith(b"ld.so-1.7.0\0") and len(content) >= 16:
        old = struct.unpack_from("<I", content, 12)[0]
        start = (16 + 12 * old + 7) // 8 * 8
    if content[start : start + 20] != b"glibc-ld.so.cache1.1" or len(content) < start + 48:
        return
    count, _, endian = struct.unpack_from("<IIB", content, start + 20)
    order = ">" if endian & 3 == 3 else "<"
    count, _, _, extension = struct.unpack_from(order + "IIB3xI", content, start + 20)
    levels = _cache_levels(content, start, order, extension)
    for number in range(min(count, _CACHE_ENTRIES)):
        at = start + 48 + 24 * number
        if at + 24 > len(content):
            return
        flags, key, value, _, hwcap = struct.unpack_from(order + "iIIIQ", content, at)
        soname, path = _text(content, start + key), _text(content, start + value)
        if hwcap & _HWCAP_EXTENSION and hwcap >> 32 == _HWCAP_EXTENSION >> 32:
            level = levels[hwcap & 0xFFFFFFFF] if hwcap & 0xFFFFFFFF < len(levels) else "?"
        else:
            level = "?" if hwcap else ""
        if soname and path.startswith("/"):
            yield soname, CacheEntry(path, flags, level)


def _cache_levels(content: bytes, start: int, order: str, extension: int) -> List[str]:
    """Return the names of glibc-hwcaps folders that entries refer to by number."""
    at = start + extension
    if not extension or at + 8 > len(content):
        return []
    magic, count = struct.unpack_from(order + "II", content, at)
    if magic != _HWCAPS_MAGIC:
        return []
    for number in range(min(count, 16)):
        if at + 24 + 16 * number > len(content):
            break
        tag, _, offset, size = struct.unpack_from(order + "IIII", content, at + 8 + 16 * number)
        if tag == 1:  # cache_extension_tag_glibc_hwcaps
            table = content[start + offset : start + offset + min(size, 4096)]
            places = struct.unpack(f"{order}{len(table) // 4}I", table[: len(table) // 4 * 4])
            return [_text(content, start + place) for place in places]
    return []


def _text(content: bytes, at: int) -> str:
    end = content.find(b"\0", at, at + 4096)
    return content[at:end].decode("utf-8", "surrogateescape") if end >= 0 else ""


def _preloads(root: Root) -> List[Tuple[str, str]]:
    """Return what LD_PRELOAD and /etc/ld.so.preload name (ld.so(8))."""
    lines = (try_read(root, "/etc/ld.so.preload", 65536) or "").splitlines()
    listed = " ".join(line.split("#")[0] for line in lines)
    places = ((root.environ.get("LD_PRELOAD", ""), "LD_PRELOAD"), (listed, "/etc/ld.so.preload"))
    return [(name, place) for text, place in places for name in re.split(r"[\s:]+", text)[:64] if name]


def _own_library_folder(root: Root, interpreter: str) -> str:
    """Return the only default folder of an ld.so that is not the system's (Nix, Guix, Linuxbrew), or ""."""
    if not interpreter.startswith("/"):
        return ""
    real = root.realpath(interpreter)
    return real.rpartition("/")[0] if re.match(r"/(?:nix/store|gnu/store|home/linuxbrew)/", real) else ""
