"""Compares a capture, fact by fact, with what independent sources say of the same environment.

    python benchmarks/agreement.py PREFIX [--json FILE]

PREFIX is a venv or conda prefix. The sources are other programs, or the environment's own Python in child
processes: pip inspect, importlib.metadata, conda-meta, dpkg-query, uname and lscpu, the libraries themselves
through ctypes (most answer without a GPU), what is mapped into a process that imported torch, torch.__config__,
torch.cuda and torch.utils.collect_env. Exit code 1 if anything differs. What a source cannot tell here (no
GPU, no pip, a library that does not load by itself) is not comparable, and counted as such.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

import envlock
from envlock.manifest.model import Manifest, to_plain
from envlock.roots.live import LiveRoot

COLOURING = (
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PYTHONPATH",
    "PYTHONNOUSERSITE",
    "PYTHONUSERBASE",
    "LD_LIBRARY_PATH",
)
"""Variables that would make the sources, or envlock, look at something else than the prefix alone."""

CHILD_SECONDS = 300.0

INTERPRETER = """
import json, os, platform, site, sqlite3, ssl, sys
print(json.dumps({
    "version": platform.python_version(), "implementation": platform.python_implementation(),
    "prefix": sys.prefix, "openssl": ssl.OPENSSL_VERSION.split()[1], "sqlite": sqlite3.sqlite_version,
    "abi": "cp%d%d%s" % (*sys.version_info[:2], getattr(sys, "abiflags", "")),
    "user_site": bool(site.ENABLE_USER_SITE and os.path.isdir(site.getusersitepackages())),
    "libc": os.confstr("CS_GNU_LIBC_VERSION"),
}))
"""

FILES = """
import json
from importlib.metadata import distributions
print(json.dumps({str(file.locate().resolve()): [dist.metadata["Name"], (dist.read_text("INSTALLER") or "").strip()]
                  for dist in distributions() for file in dist.files or () if ".so" in file.name}))
"""

TORCH = """
import json, os, re, torch
mapped = sorted({line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if ".so" in line})
flags = torch._C._cuda_getArchFlags() if torch.version.cuda else None
nccl = None
try:
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if torch.version.cuda else None
except Exception:
    pass
from torch.utils.collect_env import get_env_info
info = get_env_info()._asdict()
print(json.dumps({
    "version": torch.__version__, "cuda": torch.version.cuda or "", "hip": torch.version.hip or "", "nccl": nccl,
    "cudnn": torch.backends.cudnn.version() if torch.version.cuda else None,
    "abi": bool(torch._C._GLIBCXX_USE_CXX11_ABI), "flags": flags, "mapped": mapped, "archs": torch.cuda.get_arch_list(),
    "config": torch.__config__.show(), "info": {key: value for key, value in info.items() if isinstance(value, str)},
}))
"""

MODULE = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
cuda = getattr(getattr(module, "version", None), "cuda", None)
if isinstance(cuda, int):
    cuda = "%d.%d" % (cuda // 1000, cuda % 1000 // 10)
print(json.dumps({"version": module.__version__, "cuda": cuda}))
"""

LIBRARY = """
import ctypes, json, sys
path, name = sys.argv[1:]
library = ctypes.CDLL(path)
def number(function):
    value = ctypes.c_int()
    assert getattr(library, function)(ctypes.byref(value)) == 0
    return value.value
def parts(function, count=3):
    values = []
    for part in range(count):
        value = ctypes.c_int()
        assert getattr(library, function)(part, ctypes.byref(value)) == 0
        values.append(value.value)
    return ".".join(map(str, values))
def pair(function):
    major, minor = ctypes.c_int(), ctypes.c_int()
    assert getattr(library, function)(ctypes.byref(major), ctypes.byref(minor)) == 0
    return "%d.%d" % (major.value, minor.value)
def cuda(value):
    return "%d.%d" % (value // 1000, value % 1000 // 10)
def nccl(value):
    return "%d.%d.%d" % (value // 10000, value % 10000 // 100, value % 100)
def cudnn():
    library.cudnnGetVersion.restype = ctypes.c_size_t
    value = library.cudnnGetVersion()
    return nccl(value) if value >= 90000 else "%d.%d.%d" % (value // 1000, value % 1000 // 100, value % 100)
def mpi():
    text, size = ctypes.create_string_buffer(8192), ctypes.c_int()
    assert library.MPI_Get_library_version(text, ctypes.byref(size)) == 0
    # "Open MPI v4.1.4, package: ...", "MPICH Version:      4.0.2 ..."
    return next(word for word in text.value.decode().replace(",", " ").split() if "." in word).lstrip("v")
print(json.dumps({
    "cudart": lambda: cuda(number("cudaRuntimeGetVersion")), "nccl": lambda: nccl(number("ncclGetVersion")),
    "cudnn": cudnn, "cublas": lambda: parts("cublasGetProperty"), "cufft": lambda: parts("cufftGetProperty"),
    "curand": lambda: parts("curandGetProperty"), "cusolver": lambda: parts("cusolverGetProperty"),
    "cusparse": lambda: parts("cusparseGetProperty"), "cusparselt": lambda: parts("cusparseLtGetProperty"),
    "nvrtc": lambda: pair("nvrtcVersion"), "nvjitlink": lambda: pair("nvJitLinkVersion"), "mpi": mpi,
}[name]()))
"""
ASKABLE = ("cudart", "nccl", "cudnn", "cublas", "cufft", "curand", "cusolver", "cusparse", "cusparselt", "nvrtc",
           "nvjitlink", "mpi")  # fmt: skip


class Row(NamedTuple):
    """One fact, and what the two sides say of it."""

    fact: str
    envlock: Any
    other: Any
    """None where the source cannot tell."""
    source: str
    verdict: str
    """agree, differ or not comparable"""


class Place(NamedTuple):
    """What is compared."""

    prefix: Path
    manifest: Manifest
    facts: dict[str, Any]
    environ: dict[str, str]

    @property
    def python(self) -> str:
        """The interpreter of the prefix, by the path inside it."""
        return str(self.prefix / "bin" / "python")

    def run(self, *command: str) -> str | None:
        """Return what a program prints, or None where it cannot be run or fails."""
        try:
            done = subprocess.run(
                command, env=self.environ, capture_output=True, text=True, timeout=CHILD_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout if done.returncode == 0 else None

    def ask(self, script: str, *arguments: str) -> Any:
        """Return the JSON that a script prints in the prefix's Python; None where it fails."""
        text = self.run(self.python, "-c", script, *arguments)
        try:
            return json.loads(text.splitlines()[-1]) if text else None
        except (ValueError, IndexError):
            return None


def row(fact: str, ours: Any, other: Any, source: str, same: Callable[[Any, Any], bool] | None = None) -> Row:
    """Compare two values; a source that says None, and a fact that envlock says it did not observe, are left out."""
    if other is None:
        return Row(fact, ours, other, source, "not comparable")
    equal = (same or (lambda a, b: a == b))(ours, other)
    return Row(fact, ours, other, source, "agree" if equal else "differ")


def as_far_as_told(ours: Any, other: Any) -> bool:
    """Tell whether two versions are equal as far as the shorter one goes: 9.10.2 and 9.10.2.21."""
    left, right = str(ours or "").split("."), str(other).split(".")
    return bool(ours) and all(a == b for a, b in zip(left, right, strict=False))


def normalised(name: str) -> str:
    """Return a project name as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


# ---- packages -------------------------------------------------------------------------------------------


def pip_packages(place: Place) -> Iterator[Row]:
    """Compare [package.pip] with pip inspect, both ways: what one of them alone knows is a difference."""
    source = "pip inspect"
    text = place.run(place.python, "-m", "pip", "--disable-pip-version-check", "inspect")
    ours = place.facts.get("package", {}).get("pip", {})
    conda = {normalised(name) for name in place.facts.get("package", {}).get("conda", {})}
    if text is None:
        yield row("package.pip", f"{len(ours)} packages", None, source)
        return
    theirs: dict[str, dict[str, Any]] = {}
    for item in json.loads(text)["installed"]:
        theirs.setdefault(normalised(item["metadata"]["name"]), item)
    for name in sorted({*ours, *theirs}):
        mine, item = ours.get(name), theirs.get(name)
        if mine is None and item is not None and (item.get("installer") in (None, "conda") and name in conda):
            continue  # conda's own: compared with conda-meta
        version = item["metadata"]["version"] if item else "not there"
        yield row(
            f"package.pip.{name}.version", (mine or {"version": "not there"}).get("version"), version, source
        )
        if mine is None or item is None:
            continue
        yield row(
            f"package.pip.{name}.installer", mine.get("installer", ""), item.get("installer") or "", source
        )
        origin = item.get("direct_url")
        yield row(f"package.pip.{name}.source", "source" in mine, origin is not None, source)
        if origin and "vcs_info" in origin:
            yield row(f"package.pip.{name}.commit", mine.get("source", "").partition("@")[2].partition("#")[0],
                      origin["vcs_info"]["commit_id"], source, lambda a, b: a.endswith(b))  # fmt: skip
        editable = bool((origin or {}).get("dir_info", {}).get("editable"))
        yield row(f"package.pip.{name}.editable", mine.get("editable", False), editable, source)


def requirements(place: Place) -> Iterator[Row]:
    """Compare [requires] with importlib.metadata and packaging, run by the interpreter that runs this."""
    from packaging.requirements import InvalidRequirement, Requirement

    told = place.ask(
        "import json\nfrom importlib.metadata import distributions\n"
        "print(json.dumps({d.metadata['Name']: d.requires or [] for d in reversed(list(distributions()))}))"
    )
    markers = place.ask(
        "import json, platform as p, sys, os\nprint(json.dumps({'python_version': '%d.%d' % sys.version_info[:2],"
        "'python_full_version': p.python_version(), 'sys_platform': sys.platform, 'os_name': os.name,"
        "'platform_system': p.system(), 'platform_machine': p.machine(), 'implementation_name': sys.implementation.name,"
        "'platform_python_implementation': p.python_implementation()}))"
    )
    known = place.facts.get("package", {}).get("pip", {})
    for name, lines in sorted((told or {}).items()):
        if normalised(name) not in known:
            continue
        wanted = set()
        for line in lines:
            try:
                requirement = Requirement(line)
            except InvalidRequirement:
                continue
            if requirement.marker is None or requirement.marker.evaluate({**markers, "extra": ""}):
                wanted.add(
                    (normalised(requirement.name), str(requirement.specifier), frozenset(requirement.extras))
                )
        ours = {
            (normalised(each.name), str(each.specifier), frozenset(each.extras))
            for each in map(Requirement, place.facts.get("requires", {}).get(normalised(name), ()))
        }
        yield row(
            f"requires.{normalised(name)}", _lines(ours), _lines(wanted), "importlib.metadata and packaging"
        )


def _lines(requirements: Iterable[tuple[str, str, frozenset[str]]]) -> list[str]:
    return sorted(
        f"{name}[{','.join(sorted(extras))}]{specifier}" for name, specifier, extras in requirements
    )


def conda_packages(place: Place) -> Iterator[Row]:
    """Compare [package.conda] with conda-meta, parsed as JSON."""
    records = [json.loads(file.read_bytes()) for file in sorted(place.prefix.glob("conda-meta/*.json"))]
    theirs = {record["name"]: record for record in records}
    ours = place.facts.get("package", {}).get("conda", {})
    for name in sorted({*ours, *theirs}):
        mine, record = ours.get(name, {}), theirs.get(name, {})
        for key in ("version", "build", "subdir", "sha256"):
            yield row(f"package.conda.{name}.{key}", mine.get(key) or "", record.get(key) or "", "conda-meta")
        channel = str(record.get("channel", "")).rstrip("/").removesuffix("/" + str(record.get("subdir", "")))
        yield row(f"package.conda.{name}.channel", mine.get("channel"), channel, "conda-meta",
                  lambda a, b: bool(a) and b.endswith(a))  # fmt: skip


def system_packages(place: Place) -> Iterator[Row]:
    """Compare [package.system] with dpkg-query, as far as envlock records it."""
    text = place.run(
        "dpkg-query", "-W", "-f", "${db:Status-Status}\t${Package}\t${Architecture}\t${Version}\n"
    )
    theirs: dict[str, set[str]] = {}
    for line in (text or "").splitlines():
        status, name, arch, version = line.split("\t")
        if status == "installed":
            theirs.setdefault(name, set()).add(version)
            theirs.setdefault(f"{name}:{arch}", set()).add(version)
    for name, version in place.facts.get("package", {}).get("system", {}).items():
        other = theirs.get(name, {"not there"}) if text is not None else None
        yield row(
            f"package.system.{name}", version, other and sorted(other), "dpkg-query", lambda a, b: a in b
        )


# ---- machine, system, interpreter -----------------------------------------------------------------------


def machine(place: Place) -> Iterator[Row]:
    """Compare [host], [os] and [gpu] with uname, lscpu, ldd and what the files say."""
    host, system = place.facts.get("host", {}), place.facts.get("os", {})
    for fact, command in (("kernel", "-r"), ("arch", "-m")):
        yield row(f"host.{fact}", host.get(fact), _line(place.run("uname", command)), f"uname {command}")
    cpu = re.search(r"^Model name:\s*(.*\S)", place.run("lscpu") or "", re.M)
    yield row("host.cpu", host.get("cpu"), cpu and cpu.group(1), "lscpu")
    free = re.search(r"^Mem:\s+(\d+)", place.run("free", "-b") or "", re.M)
    yield row("host.memory_gib", host.get("memory_gib"), free and round(int(free.group(1)) / 2**30), "free")
    locked = _line(place.run("sh", "-c", "ulimit -l"))
    yield row("host.memlock_kib", host.get("memlock_kib"), locked and (-1 if locked == "unlimited" else int(locked)),
              "ulimit -l")  # fmt: skip
    release = dict(
        line.replace('"', "").split("=", 1)
        for line in (place.run("cat", "/etc/os-release") or "").splitlines()
        if "=" in line
    )
    yield row("os.id", system.get("id"), release.get("ID"), "/etc/os-release")
    yield row("os.version", system.get("version"), release.get("VERSION_ID"), "/etc/os-release")
    libc = re.search(r"(\d+\.\d+)$", _line(place.run("ldd", "--version")) or "")
    yield row("os.libc", system.get("libc"), libc and f"glibc {libc.group(1)}", "ldd --version")
    gcc = _line(place.run("gcc", "-dumpfullversion"))
    yield row("compiler.gcc", place.facts.get("compiler", {}).get("gcc"), gcc, "gcc -dumpfullversion")
    smi = place.run("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    yield row("gpu", [gpu.get("name") for gpu in place.facts.get("gpu", ())],
              smi and sorted({line.split(",")[0] for line in smi.splitlines()}), "nvidia-smi")  # fmt: skip
    yield row("driver.version", place.facts.get("driver", {}).get("version"),
              smi and smi.splitlines()[0].split(", ")[1], "nvidia-smi")  # fmt: skip


def interpreter(place: Place) -> Iterator[Row]:
    """Compare [python] with what the interpreter says of itself; a fact that envlock leaves open is not compared."""
    told = place.ask(INTERPRETER)
    python = place.facts.get("python", {})
    for fact in ("version", "implementation", "abi", "prefix", "openssl", "sqlite", "user_site"):
        known = python.get(fact)
        other = told[fact] if told and (known is not None or fact in ("version", "abi", "prefix")) else None
        yield row(f"python.{fact}", known, other, "the interpreter")
    system = place.facts.get("os", {})
    yield row("os.libc", system.get("libc"), told and told["libc"], "confstr CS_GNU_LIBC_VERSION")


def _line(text: str | None) -> str | None:
    return text.splitlines()[0].strip() if text else None


# ---- libraries ------------------------------------------------------------------------------------------


def libraries(place: Place) -> Iterator[Row]:
    """Compare [[library]]: versions with the libraries' own answers, providers with RECORD files and dpkg."""
    owners = place.ask(FILES)
    for library in place.facts.get("library", ()):
        name, path = library["name"], library["path"]
        fact = f"library.{name} {path}"
        if name in ASKABLE:
            other = place.ask(LIBRARY, path, name)
            yield row(f"{fact} version", library.get("version"), other, "the library itself", as_far_as_told)
        if name == "libstdcxx":
            names = re.findall(rb"GLIBCXX_(\d+(?:\.\d+)+)\0", Path(path).read_bytes())
            newest = max((tuple(map(int, each.split(b"."))) for each in names), default=None)
            yield row(f"{fact} version", library.get("version"), newest and "GLIBCXX_" + ".".join(map(str, newest)),
                      "names in the file")  # fmt: skip
        kind, _, package = library.get("provider", "").partition(":")
        real = str(Path(path).resolve())
        if kind == "pip" or (kind == "file" and owners is not None and real in owners):
            owner = owners and owners.get(real, ["nobody", ""])
            other = owner and (f"{owner[0]}, by conda" if owner[1] == "conda" else owner[0])
            yield row(f"{fact} provider", package, other and normalised(other), "importlib.metadata")
        elif kind == "deb":
            found = place.run("dpkg", "-S", real) or place.run("dpkg", "-S", real.removeprefix("/usr"))
            yield row(f"{fact} provider", package, found and found.partition(":")[0], "dpkg -S")
        elif kind == "conda":
            files = json.loads(next(place.prefix.glob(f"conda-meta/{package}-[0-9]*.json")).read_bytes())[
                "files"
            ]
            yield row(
                f"{fact} provider", True, str(Path(real).relative_to(place.prefix)) in files, "conda-meta"
            )


# ---- frameworks -----------------------------------------------------------------------------------------


def torch(place: Place) -> Iterator[Row]:
    """Compare [framework.torch] and who loads which library with torch itself, and with its collect_env."""
    ours = place.facts.get("framework", {}).get("torch")
    if ours is None:
        return
    told = place.ask(TORCH)
    if told is None:
        yield row("framework.torch", ours.get("version"), None, "torch")
        return
    for fact in ("version", "cuda", "hip"):
        yield row(f"framework.torch.{fact}", ours.get(fact), told[fact], f"torch ({fact})")
    yield row("framework.torch.cxx11_abi", ours.get("cxx11_abi"), told["abi"], "torch._C")
    cudnn = told["cudnn"] and ".".join(
        map(str, (told["cudnn"] // 10000, told["cudnn"] % 10000 // 100, told["cudnn"] % 100))
    )
    yield row(
        "framework.torch.cudnn", ours.get("cudnn"), cudnn, "torch.backends.cudnn.version()", as_far_as_told
    )
    yield row(
        "framework.torch.nccl", ours.get("nccl"), told["nccl"], "torch.cuda.nccl.version()", as_far_as_told
    )
    flags = told["flags"].split() if told["flags"] is not None else None
    for fact, start in (("archs", "sm_"), ("ptx", "compute_")):
        listed = None if flags is None else [flag for flag in flags if flag.startswith(start)]
        yield row(f"framework.torch.{fact}", ours.get(fact, []), listed, "torch._C._cuda_getArchFlags()")
    yield row(
        "framework.torch.archs", ours.get("archs", []), told["archs"] or None, "torch.cuda.get_arch_list()"
    )
    built = re.search(r"CUDA_VERSION=([\d.]+)", told["config"])
    yield row("framework.torch.cuda", ours.get("cuda"), built.group(1) if built else "", "torch.__config__", as_far_as_told
              if built else None)  # fmt: skip
    yield from loaded(place, told["mapped"])
    yield from collect_env(place, told["info"])


def loaded(place: Place, mapped: list[str]) -> Iterator[Row]:
    """Compare used_by with what is mapped into a process that imported torch: what is there must be foretold.

    What is foretold and not mapped is opened later, when a GPU is used first: not comparable.
    """
    files = {os.path.realpath(path) for path in mapped}
    for library in place.facts.get("library", ()):
        users, real = library.get("used_by", ()), os.path.realpath(library["path"])
        if real in files and library["path"].rpartition("/")[0].endswith(".libs"):
            # A copy inside another wheel, which torch imports if it is there: that wheel is its user.
            yield row(
                f"library.{library['name']} {library['path']} used_by", bool(users), True, "/proc/self/maps"
            )
        elif real in files:
            yield row(
                f"library.{library['name']} {library['path']} used_by",
                "torch" in users,
                True,
                "/proc/self/maps",
            )
        elif "torch" in users:
            yield row(f"library.{library['name']} {library['path']} used_by", True, None, "/proc/self/maps")


def collect_env(place: Place, info: dict[str, str]) -> Iterator[Row]:
    """Compare with torch.utils.collect_env, field by field, in its spelling."""
    source = "torch.utils.collect_env"
    framework, system = place.facts["framework"]["torch"], place.facts.get("os", {})
    told = {
        key: value for key, value in info.items() if value not in ("N/A", "Could not collect", "No CUDA", "")
    }
    yield row("framework.torch.version", framework.get("version"), told.get("torch_version"), source)
    yield row("framework.torch.cuda", framework.get("cuda"), told.get("cuda_compiled_version"), source)
    yield row("os.libc", system.get("libc", "").replace(" ", "-"), told.get("libc_version"), source)
    yield row(
        "python.version",
        place.facts["python"]["version"],
        told.get("python_version", "").split(" ")[0] or None,
        source,
    )
    name = f"{system.get('id')} {system.get('version')}"
    yield row(
        "os",
        name,
        told.get("os"),
        source,
        lambda ours, other: all(part in other.lower() for part in ours.split()),
    )
    yield row("compiler.gcc", place.facts.get("compiler", {}).get("gcc"), told.get("gcc_version"), source,
              lambda ours, other: bool(ours) and ours in other)  # fmt: skip
    cpu = re.search(r"^Model name:\s*(.*\S)", told.get("cpu_info", ""), re.M)
    yield row("host.cpu", place.facts.get("host", {}).get("cpu"), cpu and cpu.group(1), source)
    toolkit = next(
        (each.get("version") for each in place.facts.get("toolkit", ()) if each.get("active")), None
    )
    # It prints the nvcc of PATH under the name of a runtime: what envlock calls the active toolkit.
    yield row("toolkit", toolkit, told.get("cuda_runtime_version"), source)
    driver = place.facts.get("driver", {}).get("version")
    yield row("driver.version", driver, told.get("nvidia_driver_version"), source)
    gpus = [gpu.get("name", "") for gpu in place.facts.get("gpu", ())]
    yield row(
        "gpu",
        gpus,
        told.get("nvidia_gpu_models"),
        source,
        lambda ours, other: all(name in other for name in ours),
    )
    for line in told.get("pip_packages", "").splitlines():
        package, _, version = line.removeprefix("[pip3] ").partition("==")
        mine = place.facts.get("package", {}).get("pip", {}).get(normalised(package), {})
        yield row(f"package.pip.{normalised(package)}.version", mine.get("version"), version, source)


def extensions(place: Place) -> Iterator[Row]:
    """Compare the other frameworks' and extensions' versions with what their modules say when imported."""
    modules = {"torchvision": "torchvision", "torchaudio": "torchaudio", "triton": "triton", "jax": "jax",
               "jaxlib": "jaxlib", "onnxruntime": "onnxruntime", "xformers": "xformers"}  # fmt: skip
    for name, ours in place.facts.get("framework", {}).items():
        if name not in modules:
            continue
        told = place.ask(MODULE, modules[name])
        yield row(
            f"framework.{name}.version",
            ours.get("version"),
            told and told["version"],
            f"import {modules[name]}",
        )
        yield row(
            f"framework.{name}.cuda", ours.get("cuda"), told and told["cuda"], f"import {modules[name]}"
        )


SOURCES = (
    pip_packages,
    requirements,
    conda_packages,
    system_packages,
    machine,
    interpreter,
    libraries,
    torch,
    extensions,
)


def compare(prefix: Path) -> list[Row]:
    """Capture a prefix and compare it with every source."""
    environ = {key: value for key, value in os.environ.items() if key not in COLOURING}
    manifest = envlock.capture(LiveRoot(environ), prefix=str(prefix))
    place = Place(prefix, manifest, to_plain(manifest), environ)
    return [each for source in SOURCES for each in source(place)]


def main() -> int:
    """Compare, print the counts by kind of fact and each difference; 1 where there is one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prefix", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = compare(options.prefix.absolute())
    kinds: dict[tuple[str, str], Counter[str]] = {}
    for each in rows:
        words = each.fact.split(" ")
        parts = words[0].split(".")
        if parts[0] == "package":
            kind = ".".join([*parts[:2], *([parts[-1]] if parts[1] != "system" and len(parts) > 3 else [])])
        elif parts[0] == "library" and len(words) > 1:
            kind = f"library {words[-1]}"
        else:
            kind = parts[0] if parts[0] == "requires" else words[0]
        kinds.setdefault((kind, each.source), Counter())[each.verdict] += 1
    print(f"{'fact':32} {'compared with':36} {'agree':>6} {'differ':>7} {'not comparable':>15}")
    for (kind, source), count in kinds.items():
        print(f"{kind:32} {source:36} {count['agree']:6} {count['differ']:7} {count['not comparable']:15}")
    total = Counter(each.verdict for each in rows)
    print(f"{'in all':69} {total['agree']:6} {total['differ']:7} {total['not comparable']:15}")
    for each in rows:
        if each.verdict == "differ":
            print(f"differ: {each.fact}: envlock says {each.envlock!r}, {each.source} says {each.other!r}")
    if options.json:
        options.json.write_text(json.dumps([each._asdict() for each in rows], indent=1, default=str))
    return 1 if total["differ"] else 0


if __name__ == "__main__":
    sys.exit(main())
