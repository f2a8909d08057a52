"""Which copies of the native libraries under a GPU stack there are, whose they are, and who would load which.

A copy is one file, however many links lead to it. Versions come from file names, package records, headers
and the file's own text; a library is asked (in a child process) only when nothing else knows.
"""

import re
from contextlib import nullcontext
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

from envlock.probe.cache import FileCache
from envlock.probe.elf import ElfError, newest_version, read_defined_versions, read_elf, read_sections
from envlock.probe.frameworks import Dist, Environment, find_frameworks, normalise, scan_environment, simulate
from envlock.probe.loader import Loader, split_library_path
from envlock.probe.observation import Observation
from envlock.probe.root import Entry, Root, UnobservableError, try_read

_FILE_LIMIT = 20_000
"""Names looked at in one folder at most."""
_RODATA_LIMIT = 64 * 1024 * 1024
_RECORD_LIMIT = 16 * 1024 * 1024
_ASK_SECONDS = 5.0

_KINDS = (
    ("cudart", "cudart", "cuda-cudart cudatoolkit cuda-runtime"),
    ("cublas", "cublas", "libcublas cudatoolkit"),
    ("cublasLt", "cublasLt", "libcublas cudatoolkit"),
    ("cudnn", "cudnn", "cudnn libcudnn"),
    ("nccl", "nccl", "nccl"),
    ("cufft", "cufft", "libcufft cudatoolkit"),
    ("cusparse", "cusparse", "libcusparse cudatoolkit"),
    ("cusparselt", "cusparseLt", "cusparselt libcusparselt"),
    ("cusolver", "cusolver", "libcusolver cudatoolkit"),
    ("curand", "curand", "libcurand cudatoolkit"),
    ("nvjitlink", "nvJitLink", "libnvjitlink"),
    ("nvrtc", "nvrtc", "cuda-nvrtc cudatoolkit"),
    ("nvshmem", "nvshmem_host", "libnvshmem libnvshmem3"),
    ("cupti", "cupti", "cuda-cupti cudatoolkit"),
    ("cuda-compat", "cuda", "cuda-compat cuda-compat-impl"),
    ("libstdcxx", "stdc++", "libstdcxx libstdcxx-ng"),
    ("openmp", "gomp iomp5 omp", "libgomp _openmp_mutex llvm-openmp intel-openmp"),
    ("mkl", "mkl_rt", "mkl"),
    ("mpi", "mpi", "openmpi mpich impi_rt"),
    ("ucx", "ucp", "ucx"),
    ("ofi", "fabric", "libfabric libfabric1"),
    (
        "openblas",
        "openblas openblas64_ openblasp openblaso scipy_openblas scipy_openblas64_ scipy_openblasp scipy_openblaso",
        "libopenblas openblas",
    ),
)
"""name in the manifest, what stands between "lib" and ".so" in file names, conda packages that carry it."""
_NAME_OF_STEM = {stem: name for name, stems, _ in _KINDS for stem in stems.split()}
_BEHIND_STEM = re.compile(r"(?:-r?[0-9a-f]{6,16}|-[0-9a-f.]*p?)?\.so(?:\.([0-9][0-9A-Za-z.]*))?\Z")
"""What follows the stem in a file's name: auditwheel's hash or a version, the suffix, a version."""
_BY_PACKAGE = ("cudnn", "nccl", "cudart", "cublas", "cublasLt", "cufft", "cusparse", "cusparselt", "cusolver", "curand",
               "nvjitlink", "nvrtc", "nvshmem", "cupti", "mkl", "ucx", "mpi", "ofi")  # fmt: skip
"""Libraries whose version is that of the wheel or conda package which brings them."""
_WHEEL_FOLDERS = ("torch/lib", "cusparselt/lib", "onnxruntime/capi", "paddle/libs", "triton/backends/nvidia/lib/cupti",
                  "cupy/.data/lib", "ctranslate2", "jaxlib/cuda", "bitsandbytes", "intel_openmp/lib")  # fmt: skip
"""Folders of wheels that bring copies of their own, beside nvidia/*/lib and *.libs."""


class Copy(NamedTuple):
    """One copy of a library."""

    name: str
    soname: str
    path: str
    real: str
    """The file itself, links resolved."""
    version: str
    cuda: str
    provider: str
    used_by: Tuple[str, ...]
    how: Tuple[str, ...]
    """For each framework that loads it, what led there: "torch: RPATH ... of libtorch_cuda.so"."""


class _File(NamedTuple):
    """A library's file as found in a folder."""

    name: str
    path: str
    real: str


def read_libraries(
    root: Root, target: Any, environment: Optional[Environment] = None, cache: Optional[FileCache] = None
) -> Observation:
    """Observe ``library``: every copy, by name and path, with the frameworks whose search ends at it.

    ``environment`` is that of the target where the caller has scanned it already, ``cache`` one that is open.
    """
    seen = Observation()
    environment = scan_environment(root, target) if environment is None else environment
    with FileCache(root, environment.prefix) if cache is None else nullcontext(cache) as held:
        copies = find_copies(environment, held, seen)
    kept = ("name", "version", "soname", "path", "provider", "cuda", "used_by")
    rows: List[Dict[str, Any]] = []
    for copy in copies:
        row = {key: getattr(copy, key) for key in kept if getattr(copy, key)}
        # File names are bytes to Linux; a manifest is UTF-8.
        rows.append(
            {key: _utf8(value) if isinstance(value, str) else list(value) for key, value in row.items()}
        )
    if rows:
        seen.facts["library"] = rows
    return seen


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


class Search(NamedTuple):
    """What one framework does about one library."""

    framework: str
    winner: Optional[str]
    """The path of the copy that it loads; None where it finds or needs none."""
    how: str


class Which(NamedTuple):
    """The answer to "which cudnn": all copies, and where each framework's search ends."""

    copies: List[Copy]
    searches: List[Search]


def which(root: Root, target: Any, name: str, framework: Optional[str] = None) -> Which:
    """Return the copies of a library ("cudnn", or a soname) and which of them each framework would load, and why."""
    kind = _kind(name if name.startswith("lib") else f"lib{name}.so") or name.lower()
    environment = scan_environment(root, target)
    with FileCache(root, environment.prefix) as cache:
        copies = [
            one for one in find_copies(environment, cache, Observation(), framework) if one.name == kind
        ]
    searches = []
    for copy in copies:
        for line in copy.how:
            who, _, how = line.partition(": ")
            searches.append(Search(who, copy.path, how))
    for who, (_, missing) in environment.loads.items():
        for soname in missing:
            if _kind(soname) == kind:
                searches.append(
                    Search(who, None, f"{soname} is needed, and no place that is searched has it")
                )
    return Which(copies, sorted(searches, key=lambda search: (search.framework, search.how)))


def find_copies(
    environment: Environment, cache: FileCache, seen: Observation, framework: Optional[str] = None
) -> List[Copy]:
    """Return every copy, in order of name and path; ``framework`` limits whose search is followed."""
    root = environment.root
    environment.loader.remembered = cache
    folders = _Folders(root)
    for folder in _places(root, environment):
        folders.add(folder)
    _add_cached(environment.loader, folders)
    users: Dict[str, Dict[str, str]] = {}
    for one in find_frameworks(environment):
        if framework in (None, one.name) and one.binaries:
            process, _ = simulate(environment, one)
            for loaded in process.objects:
                if _kind(loaded.file):
                    real = folders.add_file(loaded.path)
                    users.setdefault(real, {})[one.name] = loaded.how
    owners = _Owners(root, environment, cache)
    files = _without_twins(root, [file for file in folders.files() if _is_wanted(file)], users)
    owners.prepare(files)
    copies = []
    for file in files:
        provider, version, cuda = owners.of(file)
        bundler = _bundler(file.path)
        told = _identify(root, cache, file, provider, version, cuda, seen)
        who = dict(users.get(file.real, {}))
        if bundler and not who:
            # auditwheel gives the files of X.libs names of their own, so that nobody else loads them.
            who[bundler] = f"bundled in the wheel of {bundler}"
        if _kind(file.path.rpartition("/")[2]):
            copies.append(
                Copy(file.name, _soname(root, file), file.path, file.real, told[0], told[1], provider, tuple(sorted(who)),
                     tuple(f"{framework_name}: {how}" for framework_name, how in sorted(who.items())))
            )  # fmt: skip
    return sorted(_without_equal_parts(copies), key=lambda copy: (copy.name, copy.path))


def _soname(root: Root, file: _File) -> str:
    """Return a library's soname: the name that ld.so finds it by, or, of a file without links, its own word."""
    name = file.path.rpartition("/")[2]
    if re.search(r"\.so\.\d+\Z", name) or file.path.rpartition("/")[0].endswith(".libs"):
        return name
    try:
        with root.open(file.real) as opened:
            return read_elf(opened).soname or name
    except (OSError, ElfError):
        return name


def _is_wanted(file: _File) -> bool:
    """Tell whether a file is a copy to report: of libcuda, only the one for forward compatibility."""
    if file.name == "cuda-compat":
        return "/compat/" in file.real or "cuda-compat" in file.real
    return True


def _without_twins(root: Root, files: List[_File], users: Dict[str, Dict[str, str]]) -> List[_File]:
    """Leave out what a wheel holds twice because it cannot hold links: libcupti.so, .so.12 and .so.2025.1.1."""
    kept: Dict[Tuple[str, ...], _File] = {}
    for file in sorted(files, key=lambda file: (file.real not in users, _rank(file, file.real))):
        folder, _, name = file.path.rpartition("/")
        try:
            size = str(root.stat(file.real).size)
        except OSError:
            continue
        key = (folder, name.partition(".so")[0], size)
        if key not in kept or file.real in users:
            kept[key if key not in kept else (*key, name)] = file
    return sorted(kept.values())


def _without_equal_parts(copies: List[Copy]) -> List[Copy]:
    """Leave out cuDNN's sublibraries that belong to the main library beside them, or that nobody can place."""
    mains = {
        copy.path.rpartition("/")[0]: copy
        for copy in copies
        if copy.name == "cudnn" and "libcudnn." in copy.path
    }
    kept: List[Copy] = []
    alone: Dict[str, Copy] = {}
    for copy in copies:
        folder, _, file = copy.path.rpartition("/")
        if copy.name != "cudnn" or file.startswith(("libcudnn.", "libcudnn-")):
            kept.append(copy)
            continue
        main = mains.get(folder)
        if main is None or (copy.version and copy.version != main.version):
            held = alone.get(folder + copy.version)
            if held is None or (copy.used_by and not held.used_by):
                alone[folder + copy.version] = copy
        elif set(copy.used_by) - set(main.used_by):
            # The main library comes from elsewhere, and finds this part here.
            alone.setdefault(
                folder, copy._replace(used_by=tuple(sorted(set(copy.used_by) - set(main.used_by))))
            )
    return kept + list(alone.values())


# ---- where to look --------------------------------------------------------------------------------------


def _places(root: Root, environment: Environment) -> Iterable[str]:
    """Yield the folders that may hold copies."""
    for site in environment.sites:
        if "nvidia" in site.entries:
            for name in _names(root, site.path + "/nvidia"):
                yield f"{site.path}/nvidia/{name}/lib"
        for name, entry in site.entries.items():
            if name.endswith(".libs") and entry.is_dir:
                yield f"{site.path}/{name}"
        for folder in _WHEEL_FOLDERS:
            if folder.partition("/")[0] in site.entries:
                yield f"{site.path}/{folder}"
    if environment.prefix and environment.prefix != "/usr":
        yield environment.prefix + "/lib"
    for name in _names(root, "/usr/local"):
        if re.match(r"cuda(?:-[\d.]+)?\Z", name):
            for below in ("lib64", "extras/CUPTI/lib64", "compat"):
                yield f"/usr/local/{name}/{below}"
    for part in split_library_path(root.environ.get("LD_LIBRARY_PATH", "")):
        if part.startswith("/"):
            yield part
    for folder in ("/opt/nvidia/nccl/lib", "/opt/hpcx/ucx/lib", "/opt/hpcx/ompi/lib", "/opt/amazon/efa/lib",
                   "/opt/amazon/openmpi/lib", "/usr/local/lib", "/usr/local/mpi/lib", "/usr/local/ucx/lib"):  # fmt: skip
        yield folder


def _add_cached(loader: Loader, folders: "_Folders") -> None:
    """Add what ld.so.cache lists; without one, what lies in ld.so.conf's and the default folders."""
    cache = loader.cache()
    for soname, lines in cache.items():
        if _kind(soname):
            for line in lines:
                folders.add_file(line.path)
    if not cache:
        for folder, _ in loader.default_folders():
            folders.add(folder)


class _Folders:
    """Library files as they are found, one entry a file; of several names the soname's."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._done: Dict[str, None] = {}
        self._files: Dict[str, _File] = {}

    def add(self, folder: str) -> None:
        """Add what a folder holds, if it is there."""
        try:
            entries = self._root.scan(folder)
        except OSError:
            return
        real = self._root.realpath(folder)
        if real in self._done:
            return
        self._done[real] = None
        for entry in entries[:_FILE_LIMIT]:
            if entry.name.startswith("lib") and _is_library(entry):
                self.add_file(f"{real.rstrip('/')}/{entry.name}")

    def add_file(self, path: str) -> str:
        """Add one file that is there; return its path with links resolved."""
        name = path.rpartition("/")[2]
        kind = _kind(name)
        real = self._root.realpath(path)
        if not kind or not self._root.is_file(real):
            return real
        folder = self._root.realpath(path.rpartition("/")[0] or "/")
        file = _File(kind, f"{folder.rstrip('/')}/{name}", real)
        held = self._files.get(real)
        if held is None or _rank(file, real) < _rank(held, real):
            self._files[real] = file
        return real

    def files(self) -> List[_File]:
        """Return the files, in order of name and path."""
        return sorted(self._files.values())


def _is_library(entry: Entry) -> bool:
    return entry.is_file and _kind(entry.name) != ""


def _rank(file: _File, real: str) -> Tuple[bool, bool, int, str]:
    """Sort key among names of one file: beside the file itself, with a version, the shortest: the soname."""
    folder, _, name = file.path.rpartition("/")
    return (folder != real.rpartition("/")[0], name.endswith(".so"), len(name), file.path)


def _kind(file: str) -> str:
    """Return what the manifest calls the library of a file's name ("libcudart.so.12" is cudart), or ""."""
    stem = _stem(file)
    name = _NAME_OF_STEM.get(stem, "cudnn" if stem.startswith("cudnn_") else "")
    return name if name and _BEHIND_STEM.match(file, 3 + len(stem)) else ""


def _stem(file: str) -> str:
    """Return what stands between "lib" and the suffix or hash in a file's name; "" where it is no library's."""
    return file[3:].partition(".so")[0].partition("-")[0] if file.startswith("lib") else ""


def _names(root: Root, folder: str) -> List[str]:
    try:
        return [entry.name for entry in root.scan(folder) if entry.is_dir][:1000]
    except OSError:
        return []


def _bundler(path: str) -> str:
    """Return the project whose wheel carries a file in its X.libs folder, or ""."""
    folder = path.rpartition("/")[0].rpartition("/")[2]
    return normalise(folder[: -len(".libs")]) if folder.endswith(".libs") else ""


# ---- whose it is ----------------------------------------------------------------------------------------


class _Owners:
    """Which package brought a file: a distribution's RECORD, conda-meta, or the system's database."""

    def __init__(self, root: Root, environment: Environment, cache: FileCache) -> None:
        self._root = root
        self._environment = environment
        self._cache = cache
        self._nvidia = [dist for name, dist in environment.dists.items() if name.startswith("nvidia-")]
        self._system: Dict[str, str] = {}
        self._records: Dict[str, bytes] = {}
        self._listed: Dict[str, bytes] = {}

    def prepare(self, files: List[_File]) -> None:
        """Ask the system's package database about all files at once: reading it is the dear part."""
        from envlock.probe.system_packages import owners

        sites = tuple(site.path + "/" for site in self._environment.sites)
        conda = self._environment.prefix + "/" if self._environment.conda else "\0"
        outside = [file.real for file in files if not file.path.startswith((*sites, conda))]
        answers: Dict[str, Dict[str, str]] = {}

        def ask(path: str) -> str:
            if not answers:
                answers["all"] = owners(self._root, outside)
            return answers["all"].get(path, "")

        for path in outside:
            self._system[path] = str(self._cache.remember("owner", path, lambda path=path: ask(path)))  # type: ignore[misc]

    def of(self, file: _File) -> Tuple[str, str, str]:
        """Return provider, version and CUDA of the package that brought a file; "" where they are not known."""
        dist = self._dist(file)
        record = self._conda(file) if dist is None or self._came_with_conda(dist) else None
        if record is not None:
            return f"conda:{record[0]}", record[1], _cuda_of_build(record[2])
        if dist is not None:
            return f"pip:{dist.name}", dist.version, _cuda_of_dist(dist, file.path)
        owner = self._system.get(file.real, "")
        if owner:
            named = re.search(r"-cuda-?(\d+)", owner)
            return owner, "", named.group(1) if named else ""
        return "file", "", ""

    def _came_with_conda(self, dist: Dist) -> bool:
        """Tell whether conda installed a distribution, and nobody over it since."""
        if not self._environment.conda:
            return False
        return (try_read(self._root, dist.path + "/INSTALLER", 4096) or "conda").strip() == "conda"

    def _dist(self, file: _File) -> Optional[Dist]:
        dists = self._environment.dists
        for site in self._environment.sites:
            if not file.path.startswith(site.path + "/"):
                continue
            below = file.path[len(site.path) + 1 :]
            top = below.partition("/")[0]
            if top.endswith(".libs"):
                return dists.get(normalise(top[:-5]))
            candidates = self._nvidia[:] if top == "nvidia" else []
            candidates += [dists[normalise(top)]] if normalise(top) in dists else []
            # paddle is paddlepaddle's, onnxruntime may be onnxruntime-gpu's: only a RECORD can tell.
            longer = [
                dist for name, dist in dists.items() if top != "nvidia" and name.startswith(normalise(top))
            ]
            for dist in candidates + longer:
                if self._holds(dist, below):
                    return dist
            return candidates[-1] if candidates and top != "nvidia" else None
        if self._environment.prefix and file.path.startswith(self._environment.prefix + "/lib/lib"):
            # mkl and intel-openmp put their files into the prefix by the wheel's data folder.
            below = "../../" + file.path[len(self._environment.prefix) + 5 :]
            for name in ("mkl", "intel-openmp", "tbb", "impi-rt"):
                if name in dists and self._holds(dists[name], below):
                    return dists[name]
        return None

    def _holds(self, dist: Dist, below: str) -> bool:
        """Tell whether a distribution's RECORD lists a file, by its path from the site folder."""
        record = self._listed.get(dist.path)
        if record is None:
            record = self._listed[dist.path] = b"\n" + self._read(dist.path + "/RECORD").replace(b'"', b"")
        return b"\n" + below.encode("utf-8", "surrogateescape") + b"," in record

    def _read(self, path: str) -> bytes:
        """Return a record's content, read once; nothing where it cannot be read."""
        if path not in self._records:
            try:
                self._records[path] = self._root.read(path, _RECORD_LIMIT)
            except OSError:
                self._records[path] = b""
        return self._records[path]

    def _conda(self, file: _File) -> Optional[Tuple[str, str, str]]:
        prefix = self._environment.prefix + "/"
        if not self._environment.conda or not file.real.startswith(prefix):
            return None
        likely = next(packages for name, _, packages in _KINDS if name == file.name).split()
        records = {name: [] for name in ("likely", "rest")}  # type: Dict[str, List[Tuple[str, str, str]]]
        for name in self._environment.conda:
            stem = name[:-5].rsplit("-", 2)
            if len(stem) == 3:
                records["likely" if stem[0] in likely else "rest"].append((stem[0], stem[1], stem[2]))
        wanted = b'"' + file.real[len(prefix) :].encode("utf-8", "surrogateescape") + b'"'
        for record in records["likely"] + records["rest"]:
            if wanted in self._read(f"{prefix}conda-meta/{'-'.join(record)}.json"):
                return record
        return None


def _cuda_of_dist(dist: Dist, path: str) -> str:
    found = re.search(r"-cu(\d{2})\d*\Z", dist.name) or re.search(r"/nvidia/cu(\d{2})/", path)
    return found.group(1) if found else ""


def _cuda_of_build(build: str) -> str:
    found = re.search(r"cuda[_-]?(\d{2})\.?(\d)?", build)
    return (found.group(1) + ("." + found.group(2) if found.group(2) else "")) if found else ""


# ---- which version it is --------------------------------------------------------------------------------


def _identify(
    root: Root, cache: FileCache, file: _File, provider: str, packaged: str, cuda: str, seen: Observation
) -> Tuple[str, str]:
    """Return the version and the CUDA that a copy was built for; "" where they are not known."""
    by_package = (
        provider.startswith(("pip:nvidia-", "pip:mkl", "pip:cusparselt", "conda:"))
        and file.name in _BY_PACKAGE
    )
    version = packaged if by_package and not provider.startswith("conda:cudatoolkit") else ""
    version = version or _version_of_name(file)
    if file.name == "nccl" and (not version or not re.search(r"\.", cuda)):
        own = _guard(cache, "nccl", file.real, lambda: _nccl_version(root, file.real))
        found = re.match(r"([\d.]+)(?:\+cuda([\d.]+))?\Z", own)
        if found:
            version, cuda = version or found.group(1), found.group(2) or cuda
    elif file.name == "mpi" and not version:
        version = _guard(cache, "mpi", file.real, lambda: _open_mpi_version(root, file.real))
    elif file.name == "libstdcxx":
        version = _guard(cache, "libstdcxx", file.real, lambda: _newest_glibcxx(root, file.real))
    if not version and file.name in ("cudnn", "cudart", "nccl"):
        version = _version_of_header(root, file)
    if not version and file.name in ("cudnn", "cudart", "nccl") and "libcudnn_" not in file.real:
        version = _ask(root, cache, file, seen)
    if file.name == "cuda-compat" and not cuda:
        found = re.search(r"/cuda-(\d+\.\d+)/compat", file.real)
        cuda = found.group(1) if found else ""
    return version, cuda


def _guard(cache: FileCache, kind: str, path: str, read: Any) -> str:
    try:
        return str(cache.remember(kind, path, read) or "")
    except (OSError, ElfError):
        return ""


def _version_of_name(file: _File) -> str:
    """Read libcudnn.so.9.1.0 and its like; what is no longer than a soname ("12", "11.0") is no version."""
    name = file.real.rpartition("/")[2]
    found = _BEHIND_STEM.match(name, 3 + len(_stem(name))) if _kind(name) else None
    version = found.group(1) if found else None
    if version is None or file.name in ("openmp", "libstdcxx", "mpi", "ucx", "ofi", "mkl"):
        return ""
    if file.name == "openblas":
        return ""
    return (
        version
        if re.match(r"\d+\.\d+\.\d+(?:\.\d+)?\Z", version)
        or (file.name == "cuda-compat" and re.match(r"\d{3}\.\d+", version))
        else ""
    )


def _nccl_version(root: Root, path: str) -> str:
    """Return "2.30.7+cuda13.3" out of the text that NCCL prints; "" where it is not in the read-only data."""
    data = _read_only_data(root, path)
    found = re.search(rb"NCCL version (\d+\.\d+\.\d+)(\+cuda\d+\.\d+)?\x00", data) or re.search(
        rb"NCCL version (\d+\.\d+\.\d+)(\+cuda\d+\.\d+)?", data
    )
    return (found.group(1) + (found.group(2) or b"")).decode() if found else ""


def _open_mpi_version(root: Root, path: str) -> str:
    """Return "4.1.4" where Open MPI's library holds its release's tag, as MPI_Get_library_version prints it; else ""."""
    data = _read_only_data(root, path)
    tags = (
        set(re.findall(rb"\x00v(\d{1,2}\.\d{1,2}\.\d{1,2})\x00", data))
        if b"Open MPI v%d.%d.%d" in data
        else set()
    )
    return tags.pop().decode() if len(tags) == 1 else ""


def _read_only_data(root: Root, path: str) -> bytes:
    """Return a library's section of constants; empty where it has none. Raises OSError and ElfError."""
    with root.open(path) as file:
        section = read_sections(file, read_elf(file)).get(".rodata")
        if section is None:
            return b""
        file.seek(section.offset)
        return file.read(min(section.size, _RODATA_LIMIT))


def _newest_glibcxx(root: Root, path: str) -> str:
    with root.open(path) as file:
        return newest_version(read_defined_versions(file, read_elf(file)), "GLIBCXX_") or ""


_HEADERS = {
    "cudnn": (("cudnn_version.h", "cudnn.h"), ("CUDNN_MAJOR", "CUDNN_MINOR", "CUDNN_PATCHLEVEL")),
    "nccl": (("nccl.h",), ("NCCL_MAJOR", "NCCL_MINOR", "NCCL_PATCH")),
    "cudart": (("cuda_runtime_api.h",), ("CUDART_VERSION",)),
}


def _version_of_header(root: Root, file: _File) -> str:
    """Read the version from the headers that were installed beside a library, in ../include."""
    above = file.real.rpartition("/")[0].rpartition("/")[0]
    if above in ("/usr/lib", "/lib", "/usr"):
        above = "/usr"
    names, macros = _HEADERS[file.name]
    for name in names:
        text = try_read(root, f"{above}/include/{name}", 1 << 22) or ""
        numbers = [
            re.search(rf"^[ \t]*#[ \t]*define[ \t]+{macro}[ \t]+(\d{{1,6}})\b", text, re.M)
            for macro in macros
        ]
        if all(numbers):
            values = [int(number.group(1)) for number in numbers if number]
            return ".".join(map(str, values)) if len(values) == 3 else decode_cuda(values[0])
    return ""


def _ask(root: Root, cache: FileCache, file: _File, seen: Observation) -> str:
    """Ask the library itself; where that cannot be done, say so."""
    decode = {"cudnn": decode_cudnn, "nccl": decode_nccl, "cudart": decode_cuda}[file.name]

    def question() -> str:
        answer = root.ask("library", [file.real, file.name], timeout=_ASK_SECONDS).get("version")
        return decode(answer) if isinstance(answer, int) else ""

    try:
        return str(cache.remember("asked", file.real, question))
    except UnobservableError as error:
        seen.unobserved.setdefault(f"library.{file.name}.version", f"{file.path}: {error}")
        return ""


def decode_cuda(number: int) -> str:
    """Turn 12080 into "12.8" (CUDART_VERSION); "" for what is no CUDA version."""
    return f"{number // 1000}.{number % 1000 // 10}" if 5000 <= number < 100_000 else ""


def decode_cudnn(number: int) -> str:
    """Turn 90100 into "9.1.0" and, up to cuDNN 8, 8907 into "8.9.7"; "" for what is neither."""
    if 90_000 <= number < 1_000_000:
        return f"{number // 10_000}.{number % 10_000 // 100}.{number % 100}"
    return f"{number // 1000}.{number % 1000 // 100}.{number % 100}" if 4000 <= number < 9000 else ""


def decode_nccl(number: int) -> str:
    """Turn 22005 into "2.20.5" and, up to NCCL 2.8, 2804 into "2.8.4"; "" for what is neither."""
    if 20_000 <= number < 100_000:
        return f"{number // 10_000}.{number % 10_000 // 100}.{number % 100}"
    return f"{number // 1000}.{number % 1000 // 100}.{number % 100}" if 1000 <= number < 3000 else ""
