"""Rules about the process's surroundings: variables that mislead, and limits that are too low."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from envlock.manifest.versions import major, release, series
from envlock.rules.engine import rule
from envlock.rules.model import SEVERITIES, Evidence, Finding, Fix, Unknown
from envlock.rules.stack import FEW

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix
    from envlock.rules.model import Severity
    from envlock.rules.stack import Stack

Outcome = Iterator["Finding | Unknown"]

DOCKER_SHM_GIB = 0.0625
"""Docker's default for /dev/shm: 64 MiB."""

SMALL_SHM_GIB = 1
SMALL_MEMLOCK_KIB = 1024 * 1024
"""RDMA pins its buffers: NCCL and UCX want some hundred MiB a process at the least."""

_OTHERS = frozenset(("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
                     "MKL_THREADING_LAYER", "TORCH_CUDA_ARCH_LIST", "PYTHONNOUSERSITE"))  # fmt: skip
"""Variables that rules of other layers judge, with the facts that they bear on."""

_CONDA_LIB = re.compile(
    r"(?:/envs/[^/]+|/(?:ana|mini)conda\d?|/mini(?:forge|mamba)\d?|/mambaforge)/lib/?$", re.I
)
_LIBTORCH = re.compile(r"(?:/libtorch[^/]*/lib|/torch/lib|<libtorch>/lib)/?$", re.I)


_REDIRECTION = re.compile(r"_(?:PATH|HOME|LIB|LIBRARY|DATA|DIR|ROOT)$")
_CACHES = ("CUDA", "CUDNN", "CONDA", "XDG_", "HF_", "HUGGINGFACE", "TORCH", "TRANSFORMERS", "NVIDIA", "NCCL", "TRITON",
           "VLLM", "LD_LIBRARY_PATH", "PYTHONPATH", "LIBRARY_PATH", "C_INCLUDE", "CPLUS")  # fmt: skip
"""Beginnings of names that other rows and rules judge, or that tell where caches and toolkits lie."""


class Told(NamedTuple):
    """That a row's condition holds, and what else it rests on."""

    detail: str = ""
    evidence: tuple[tuple[str, Any], ...] = ()
    severity: Severity | None = None
    """Other than the row's, where more or less is known."""
    quiet: bool = False
    """True where a pasted report gives no more than the variable, which people state because it mattered."""


Judge = Callable[[str, "Stack"], "Told | None"]


@rule("environment-suspect", layer="environment", severity="warning")
def environment_suspect(stack: Stack, matrix: Matrix) -> Outcome:
    """A variable is set that is known to cause this class of failure.

    Shows itself as the row says: another copy of a library is loaded, NCCL finds no interface, a build finds no
    nvcc, a package of another Python is imported, a proxy swallows requests to the machine itself.

    Fix: unset the variable, or give it the value that the row names.

    Source: the documentation or issue of each row (`envlock matrix environment`).
    """
    found: dict[str, list[Finding]] = {}
    for row in matrix.rows("environment", "variable"):
        name = row["name"]
        actual = next((each for each in (name, name.upper()) if each in stack.environ), None)
        if actual is None or name in _OTHERS:
            continue
        told = _judge(row, stack.environ[actual], stack)
        if told is not None:
            found.setdefault(actual, []).append(_finding(row, actual, told, stack))
    if stack.partial and len(stack.packages) <= FEW:
        yield from (
            _leads_elsewhere(name, stack) for name in stack.environ if _is_redirection(name, stack, found)
        )
    for findings in found.values():
        # Of several rows on one variable the gravest is told, and of equals the one that says more.
        yield min(findings, key=lambda each: (SEVERITIES.index(each.severity or "note"), -each.rank))


def _is_redirection(name: str, stack: Stack, found: Mapping[str, Any]) -> bool:
    """Tell whether a variable of no row leads programs to another folder than the one they came with."""
    return bool(name not in found and stack.environ[name].strip() and _REDIRECTION.search(name)) and not (
        name.startswith(_CACHES) or name in _OTHERS
    )


def _leads_elsewhere(name: str, stack: Stack) -> Finding:
    return Finding(
        subject=f"environ.{name}",
        message=f"{name} is set: what reads it takes the files of that place, not those that it came with",
        evidence=(Evidence(f"environ.{name}", stack.environ[name]),),
        fixes=(Fix(f"environ.{name}", "unset", f"try without {name}", {f"environ.{name}": None}),),
        source="rasterio/rasterio#2103, openforis/pysepal#1016",
        severity="note",
        breaks=False,
        rank=6,
    )


def _judge(row: Any, value: str, stack: Stack) -> Told | None:
    judge = _JUDGES.get((row["name"], row["when"]), _JUDGES.get((row["name"], "")))
    if judge is not None:
        if "value" in row and not re.search(row["value"], value):
            return None
        return judge(value, stack)
    if "value" in row:
        return Told() if re.search(row["value"], value) else None
    return Told() if row["when"] == "is set" and value.strip() else None


def _finding(row: Any, name: str, told: Told, stack: Stack) -> Finding:
    value = stack.environ[name]
    severity: Severity = told.severity or row.get("severity", "note")
    shown = value if len(value) <= 120 else value[:117] + "..."
    detail = f" ({told.detail})" if told.detail else ""
    trial = {f"environ.{name}": None}
    return Finding(
        subject=f"environ.{name}",
        message=f"{name}={shown}{detail}: {row['effect']}",
        evidence=(
            Evidence(f"environ.{name}", value),
            *(Evidence(address, fact) for address, fact in told.evidence),
        ),
        fixes=(Fix(f"environ.{name}", "unset", row["fix"], trial),),
        source=row["source"],
        severity=severity,
        quiet=told.quiet or (bool(row.get("quiet")) and severity == "note"),
        # A row that looks at the value says more than one that asks only whether it is set.
        rank=6 if told.quiet else (5 if row.get("quiet") else 2) - (row["when"] == "is set"),
    )


# ---- conditions that rest on other facts ---------------------------------------------------------------------


def _folders(value: str) -> list[str]:
    return [entry.rstrip("/") for entry in value.split(":") if entry.strip("/ ")]


def _another_cuda(value: str, stack: Stack) -> Told | None:
    """CUDA's folders before a wheel's own: worth a note where nobody saw which copies are loaded."""
    if not stack.partial or any(copy.used_by for copy in stack.manifest.library):
        return None
    wheel = next((name for name in ("torch", "jaxlib", "tensorflow") if stack.pip(name)), None)
    folder = next(
        (each for each in _folders(value) if re.search(r"cuda|cudnn|nccl|hpcx|nvhpc", each, re.I)), None
    )
    return Told(folder, severity="note") if wheel and folder else None


def _another_torch(value: str, stack: Stack) -> Told | None:
    """A search path that holds the libraries of a torch other than the one that would be imported."""
    folders = _folders(value)
    for copy in stack.libraries("libtorch"):
        folder = (copy.path or "").rpartition("/")[0]
        if folder in folders and "site-packages" not in folder:
            return Told(folder, (("library.libtorch", copy.path),))
    prefix = stack.manifest.python.prefix
    torch = stack.framework("torch") is not None or stack.package("torch") is not None
    for folder in folders:
        own = bool(prefix) and folder.startswith(str(prefix).rstrip("/") + "/")
        if torch and _LIBTORCH.search(folder) and not own:
            # A path into this environment's own torch is common and harmless.
            known = "site-packages" not in folder or prefix is not None
            return Told(
                folder, severity="error" if "site-packages" not in folder else "warning" if known else "note"
            )
    return None


def _another_conda(value: str, stack: Stack) -> Told | None:
    prefix = (stack.manifest.python.prefix or stack.environ.get("CONDA_PREFIX") or "").rstrip("/")
    for folder in _folders(value):
        if _CONDA_LIB.search(folder) and folder != f"{prefix}/lib":
            return Told(folder, severity=None if prefix else "note")
    return None


def _beside_conda(value: str, stack: Stack) -> Told | None:
    """Conda's programs find their libraries by themselves: worth a note where a report says little else."""
    told = stack.partial and value.strip() and stack.manifest.package.conda and len(stack.packages) <= FEW
    return Told() if told else None


def _cuda_home(value: str, stack: Stack) -> Told | None:
    """A CUDA_HOME that is no folder's name, or names one in which no toolkit was found."""
    windows = stack.manifest.host.platform == "windows" or bool(re.match(r"[A-Za-z]:[\\/]", value))
    if not windows and ":" in value:
        return Told("a list of folders, not one" if value.strip(":").count(":") else "a stray colon")
    if windows and ";" in value:
        return Told("a list of folders, not one")
    if re.search(r"[\\/]bin[\\/]?$|nvcc(?:\.exe)?$", value):
        return Told("it should name the toolkit's folder, not what is in it")
    if not value.strip() or value != value.strip():
        return Told("empty, or with blanks around it", severity="warning")
    if stack.absent("toolkit", stack.manifest.toolkit):
        return Told("no toolkit was found there", (("toolkit", None),), "warning")
    toolkits = [each.path for each in stack.manifest.toolkit]
    if (
        stack.partial
        and all(toolkits)
        and toolkits
        and not _names_one(value, [each or "" for each in toolkits])
    ):
        return Told("a report names other toolkits only", (("toolkit", toolkits),), "note", quiet=True)
    return None


def _names_one(home: str, toolkits: list[str]) -> bool:
    """Tell whether a CUDA_HOME is one of the toolkits' folders, or the link that stands for whichever is active."""
    plain = home.rstrip("/\\")
    return plain in ("/usr/local/cuda", "/usr", "/opt/cuda") or any(
        plain == each.rstrip("/\\") for each in toolkits
    )


def interfaces_named(value: str, interfaces: Iterable[str]) -> list[str] | None:
    """Return the interfaces of a host that NCCL_SOCKET_IFNAME names; None where it excludes some and names none.

    NCCL's syntax: prefixes, "=" for exact names, "^" for all but these; a comma-separated list.
    """
    if not value.strip() or value.startswith("^"):
        return None
    exact = value.startswith("=")
    wanted = [each.split(":")[0].strip() for each in value.lstrip("=").split(",") if each.strip()]
    return [
        name
        for name in interfaces
        if any(name == each if exact else name.startswith(each) for each in wanted)
    ]


def interface_in_use(environ: Mapping[str, str], interfaces: Iterable[str] | None) -> str | None:
    """Return the first of a host's interfaces that NCCL or Gloo is told to use, "" where one of them finds none.

    None where they are told nothing, or the interfaces are not known.
    """
    if interfaces is None:
        return None
    asked = (environ.get("NCCL_SOCKET_IFNAME", ""), "=" + environ.get("GLOO_SOCKET_IFNAME", ""))
    found = [
        named
        for value in asked
        if value.strip("=") and (named := interfaces_named(value, interfaces)) is not None
    ]
    if not found:
        return None
    return min(min(named) for named in found) if all(found) else ""


def _socket_interface(value: str, stack: Stack) -> Told | None:
    """The host has none of the interfaces that NCCL is told to use."""
    interfaces = stack.manifest.host.interfaces
    if interfaces is None and stack.partial and value.strip("=^ "):
        return Told("the interfaces of this host are not stated", severity="note", quiet=True)
    if interfaces is None or interfaces_named(value, interfaces) != []:
        return None
    return Told(f"this host has {', '.join(interfaces) or 'none'}", (("host.interfaces", list(interfaces)),))


def _gloo_interface(value: str, stack: Stack) -> Told | None:
    return _socket_interface("=" + value, stack)


def _python_path(value: str, stack: Stack) -> Told | None:
    """A PYTHONPATH over the environment: certain where a hidden package is known, else worth a look."""
    if not value.strip():
        return None
    hidden = [
        (f"package.pip.{name}", package.version)
        for name, package in stack.manifest.package.pip.items()
        if package.shadowed_by and any(package.shadowed_by.startswith(each) for each in _folders(value))
    ]
    if hidden:
        return Told("", tuple(hidden), "note")
    looks = re.search(r"(?:site|dist)-packages", value) or (stack.partial and not stack.packages)
    return Told("its folders come before site-packages", (("python.path", list(stack.manifest.python.path)),),
                "warning" if looks else "note")  # fmt: skip


def _other_python(value: str, stack: Stack) -> Told | None:
    have = release(stack.manifest.python.version)[:2]
    named = {tuple(map(int, each)) for each in re.findall(r"python(\d)\.(\d+)/(?:site|dist)-packages", value)}
    other = sorted(each for each in named if have and each != have)
    if not other:
        return None
    text = ".".join(map(str, other[0]))
    return Told(f"packages of Python {text}", (("python.version", stack.manifest.python.version),))


def _python_home(value: str, stack: Stack) -> Told | None:
    prefix = stack.manifest.python.prefix
    if not value.strip() or (prefix and value.rstrip("/") == prefix.rstrip("/")):
        return None
    return Told(severity=None if prefix else "warning")


def _proxy(value: str, stack: Stack) -> Told | None:
    if not value.strip():
        return None
    direct = stack.environ.get("no_proxy", stack.environ.get("NO_PROXY", ""))
    if any(each.strip() in ("localhost", "127.0.0.1", "*") for each in direct.split(",")):
        return None
    serves = [name for name in ("gradio", "ray", "streamlit", "jupyter-server") if name in stack.packages]
    grave = bool(serves) or (stack.partial and not stack.packages)
    return Told("no_proxy lacks localhost", (("environ.no_proxy", direct),), None if grave else "note")


def _cpp_protobuf(value: str, stack: Stack) -> Told | None:
    protobuf = stack.version_of("protobuf")
    if protobuf is None or (major(protobuf.version) or 0) < 4:
        return None
    return Told(f"protobuf {protobuf.version}", ((protobuf.address, protobuf.version),))


def _legacy_keras(value: str, stack: Stack) -> Told | None:
    tensorflow = stack.version_of("tensorflow")
    if tensorflow is None or series(tensorflow.version) < (2, 16) or "tf-keras" in stack.packages:
        return None
    unsure = stack.partial or stack.unobserved("package.pip") is not None
    return Told("tf-keras is not installed", (("package.pip.tf-keras", None), (tensorflow.address, tensorflow.version)),
                "note" if unsure else None)  # fmt: skip


def _keras_backend(value: str, stack: Stack) -> Told | None:
    wanted = value.strip().lower()
    if wanted not in ("torch", "tensorflow", "jax") or stack.partial or not stack.package("keras"):
        return None
    if (
        any(stack.package(name) for name in (wanted, f"{wanted}-cpu", f"{wanted}-gpu"))
        or wanted in stack.frameworks
    ):
        return None
    return Told(f"{wanted} is not installed", ((f"package.pip.{wanted}", None),))


def _hf_transfer(value: str, stack: Stack) -> Told | None:
    if stack.partial or stack.unobserved("package.pip") or "hf-transfer" in stack.packages:
        return None
    if "huggingface-hub" not in stack.packages:
        return None
    return Told("hf-transfer is not installed", (("package.pip.hf-transfer", None),), "warning")


def _jax_on_cpu(value: str, stack: Stack) -> Told | None:
    return Told(evidence=(("gpu", [gpu.name for gpu in stack.gpus]),)) if stack.gpus else None


def _data_dir(value: str, stack: Stack) -> Told | None:
    found = re.search(r"xla_gpu_cuda_data_dir=(\S+)", value)
    toolkits = [each.path for each in stack.manifest.toolkit if each.path]
    if found is None or stack.partial or not toolkits or stack.unobserved("toolkit"):
        return None
    if any(found[1].rstrip("/").startswith((path, "/usr/local/cuda")) for path in toolkits):
        return None
    return Told(f"the toolkits are in {', '.join(toolkits)}", (("toolkit", toolkits),), "note")


def _adapter(value: str, stack: Stack) -> Told | None:
    """RDMA adapters are no facts of a manifest: a pasted report that names one is worth a look."""
    return (
        Told("the adapters of this host are not stated", severity="note", quiet=True)
        if stack.partial and value.strip("=^ ")
        else None
    )


def _never(value: str, stack: Stack) -> Told | None:
    """What no manifest can tell: left to the error text."""
    return None


_JUDGES: dict[tuple[str, str], Judge] = {
    ("LD_LIBRARY_PATH", "holds a folder of another copy of a framework's library"): _another_cuda,
    ("LD_LIBRARY_PATH", "holds a folder with libtorch.so or libc10.so of another torch"): _another_torch,
    ("LD_LIBRARY_PATH", "holds a stubs folder of a toolkit"): _never,
    (
        "LD_LIBRARY_PATH",
        "holds the lib folder of a conda environment that is not the one in use",
    ): _another_conda,
    ("LD_LIBRARY_PATH", "is set beside conda's packages"): _beside_conda,
    ("CUDA_HOME", ""): _cuda_home,
    ("NCCL_SOCKET_IFNAME", "matches no interface of this host"): _socket_interface,
    ("GLOO_SOCKET_IFNAME", "matches no interface of this host"): _gloo_interface,
    ("NCCL_IB_HCA", "names no adapter of this host"): _adapter,
    ("PYTHONPATH", "holds packages that are installed in the environment too"): _python_path,
    ("PYTHONPATH", "names site-packages of another Python version"): _other_python,
    ("PYTHONHOME", ""): _python_home,
    ("http_proxy", ""): _proxy,
    ("https_proxy", ""): _proxy,
    ("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "cpp with protobuf 4 or newer"): _cpp_protobuf,
    ("TF_USE_LEGACY_KERAS", ""): _legacy_keras,
    ("KERAS_BACKEND", ""): _keras_backend,
    ("HF_HUB_ENABLE_HF_TRANSFER", ""): _hf_transfer,
    ("JAX_PLATFORMS", ""): _jax_on_cpu,
    ("JAX_PLATFORM_NAME", ""): _jax_on_cpu,
    ("XLA_FLAGS", "--xla_gpu_cuda_data_dir names no toolkit"): _data_dir,
}
"""What a row's ``when`` asks of other facts, by the row's keys; an empty ``when`` judges all rows of a variable."""


# ---- limits --------------------------------------------------------------------------------------------------


@rule("shared-memory-small", layer="environment", severity="warning", needs=("host.shm_gib",))
def shared_memory_small(stack: Stack, matrix: Matrix) -> Outcome:
    """Shared memory (/dev/shm) is too small for data loader workers and for NCCL.

    Shows itself as "Bus error. It is possible that dataloader's workers are out of shared memory", "No space
    left on device" under /dev/shm, or "Error while creating shared memory segment /dev/shm/nccl-...".

    Fix: docker run --shm-size=8g or --ipc=host; in Kubernetes an emptyDir with medium Memory at /dev/shm.

    Source: PyTorch README, Docker image; NVIDIA/nccl docs/userguide/source/troubleshooting/runtime_and_mpi_issues.rst,
    Shared memory.
    """
    size, container = stack.manifest.host.shm_gib, stack.manifest.container
    if size is None or size >= SMALL_SHM_GIB:
        return
    contained = bool(container.runtime or container.image)
    if not contained and size > DOCKER_SHM_GIB:
        return
    uses = bool(stack.frameworks) or any(name in stack.packages for name in ("torch", "jax", "tensorflow"))
    if not uses and not stack.partial and not stack.gpus:
        return
    yield Finding(
        subject="host.shm_gib",
        message=f"shared memory (/dev/shm) has {size * 1024:.0f} MiB: data loader workers and NCCL need more",
        evidence=(
            Evidence("host.shm_gib", size),
            *([Evidence("container.runtime", container.runtime)] if container.runtime else []),
        ),
        fixes=(
            Fix("host.shm_gib", ">=8", "start the container with --shm-size=8g or --ipc=host", {"host.shm_gib": 8}),
        ),
        source="PyTorch README, Docker image; NCCL documentation, Troubleshooting, shared memory",
    )  # fmt: skip


@rule("memory-lock-small", layer="environment", severity="warning", needs=("host.memlock_kib",))
def memory_lock_small(stack: Stack, matrix: Matrix) -> Outcome:
    """RLIMIT_MEMLOCK is too low for RDMA, which pins its buffers.

    Shows itself as "ibv_reg_mr: Cannot allocate memory", "Call to ibv_create_cq failed" or "UCX ERROR ...
    please check the memlock limit" when the first connection over InfiniBand or RoCE is made.

    Fix: ulimit -l unlimited (limits.conf, or LimitMEMLOCK=infinity of slurmd or containerd); docker run
    --ulimit memlock=-1.

    Source: NVIDIA/nccl docs/userguide/source/troubleshooting/networking_troubleshooting.rst, InfiniBand (memlock);
    getrlimit(2).
    """
    host = stack.manifest.host
    if host.memlock_kib is None or not 0 <= host.memlock_kib < SMALL_MEMLOCK_KIB:
        return
    adapters = [name for name in host.interfaces or () if re.match(r"ib\w*\d", name)]
    asked = [
        name
        for name in ("NCCL_IB_HCA", "NCCL_NET_GDR_LEVEL", "UCX_NET_DEVICES")
        if stack.environ.get(name) and stack.environ.get("NCCL_IB_DISABLE") != "1"
    ]
    # rdma-core is a library that Open MPI brings to any machine: by itself it says nothing of an adapter.
    drivers = host.rdma if stack.partial or not (host.rdma or "").startswith("rdma-core") else None
    # Every machine has a small limit; a pasted report that states it says that it mattered.
    if not (drivers or adapters or asked or stack.partial):
        return
    why = host.rdma or ", ".join(adapters or asked)
    yield Finding(
        subject="host.memlock_kib",
        message=f"RLIMIT_MEMLOCK is {host.memlock_kib} KiB, and RDMA "
        + (f"is there ({why}), which needs it unlimited" if why else "needs it unlimited"),
        evidence=(
            Evidence("host.memlock_kib", host.memlock_kib),
            *([Evidence("host.rdma", host.rdma)] if host.rdma else []),
            *([Evidence("host.interfaces", adapters)] if adapters else []),
            *(Evidence(f"environ.{name}", stack.environ[name]) for name in asked),
        ),
        fixes=(
            Fix("host.memlock_kib", "unlimited", "ulimit -l unlimited, or docker run --ulimit memlock=-1",
                {"host.memlock_kib": -1}),
        ),
        source="NCCL documentation, Troubleshooting, InfiniBand and RoCE",
    )  # fmt: skip
