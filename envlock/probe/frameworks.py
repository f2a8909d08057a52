"""What each framework and compiled extension was built with, and which library files it would load.

Everything is read as text or from ELF headers: version files, dist-info, conda-meta build strings, fat
binaries. Nothing is imported. How each framework finds its libraries (what it preloads, what it opens by
dlopen) is stated here with the file in its sources that does it.
"""

import re
from contextlib import nullcontext
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from envlock.probe.cache import FileCache
from envlock.probe.elf import ElfError, newest_version, read_elf, read_needed_versions, read_sections
from envlock.probe.loader import Loader, Process
from envlock.probe.observation import Observation
from envlock.probe.root import Entry, Root, try_read

_SMALL = 1024 * 1024
_BINARY_LIMIT = 64
"""Binaries read of one framework at most."""
_DIGIT = "[0-9]"
_DIGITS = frozenset("0123456789")
_MISSING_LIMIT = 32
_STRINGS_LIMIT = 16 * 1024 * 1024
_DRIVER = re.compile(r"lib(?:cuda|nvidia-[a-z0-9-]+|nvcuvid|amdhip64|hsa-runtime64)\.so")
"""What the driver brings: its absence says something of the machine, nothing of the framework."""
_SONAMES = {
    "11": "cudart.so.11.0 cublas.so.11 cublasLt.so.11 cufft.so.10 curand.so.10 cusolver.so.11 cusparse.so.11 cupti.so.11.8",
    "12": "cudart.so.12 cublas.so.12 cublasLt.so.12 cufft.so.11 curand.so.10 cusolver.so.11 cusparse.so.12 cupti.so.12",
    "13": "cudart.so.13 cublas.so.13 cublasLt.so.13 cufft.so.12 curand.so.10 cusolver.so.12 cusparse.so.12 cupti.so.13",
}
"""CUDA major -> the sonames that TensorFlow and XLA open by name (tsl/platform/default/dso_loader.cc)."""
_CUDNN_PARTS = {
    "8": ("ops_infer", "ops_train", "cnn_infer", "cnn_train", "adv_infer", "adv_train"),
    "9": ("graph", "ops", "cnn", "adv", "engines_precompiled", "engines_runtime_compiled", "heuristic"),
}
"""cuDNN's major -> the sublibraries that libcudnn.so opens when they are needed."""
_TORCH_PRELOADS = {
    "cublas": "libcublas.so.*[0-9]",
    "cudnn": "libcudnn.so.*[0-9]",
    "cuda_nvrtc": "libnvrtc.so.*[0-9]",
    "cuda_runtime": "libcudart.so.*[0-9]",
    "cuda_cupti": "libcupti.so.*[0-9]",
    "cufft": "libcufft.so.*[0-9]",
    "curand": "libcurand.so.*[0-9]",
    "nvjitlink": "libnvJitLink.so.*[0-9]",
    "cusparse": "libcusparse.so.*[0-9]",
    "cusparselt": "libcusparseLt.so.*[0-9]",
    "cusolver": "libcusolver.so.*[0-9]",
    "nccl": "libnccl.so.*[0-9]",
    "nvshmem": "libnvshmem_host.so.*[0-9]",
    "cufile": "libcufile.so.*[0-9]",
    "nvtx": "libnvToolsExt.so.*[0-9]",
}
"""Folders of nvidia wheels, and the files in them, that torch/__init__.py (_preload_cuda_deps) opens by path when
libtorch_global_deps.so does not load; in its order. Where that file can be read, its own list counts."""
_TORCH_EARLY = (("cuda_nvrtc", "libnvrtc.so.*[0-9]"), ("cuda_nvrtc", "libnvrtc-builtins.so.*[0-9]"),
                ("nvjitlink", "libnvJitLink.so.*[0-9]"))  # fmt: skip
"""What torch from 2.6 on opens by path when it does load (pytorch#138460, pytorch#145580); later ones open all."""

_CUPY_PRELOADS = (("nvjitlink", "libnvJitLink.so.*[0-9]"), ("cublas", "libcublasLt.so.*[0-9]"),
                  ("cublas", "libcublas.so.*[0-9]"), ("cusparse", "libcusparse.so.*[0-9]"),
                  ("cusolver", "libcusolver.so.*[0-9]"), ("curand", "libcurand.so.*[0-9]"),
                  ("cufft", "libcufft.so.*[0-9]"), ("cuda_nvrtc", "libnvrtc.so.*[0-9]"), ("nccl", "libnccl.so.*[0-9]"),
                  ("cutensor", "libcutensor.so.*[0-9]"))  # fmt: skip
"""What CuPy from 14 on has cuda-pathfinder open by path before the modules that need it, each behind what it needs
(cupy_backends/cuda/libs/__init__.py, cupy/cuda/__init__.py; pathfinder looks into NVIDIA's wheels first)."""
_CUPY_OPTIONAL = re.compile(r"lib(?:cutensor|nccl|cusparseLt)")
"""What CuPy goes without where it is not installed (cupy/_environment.py, cupy/cuda/nccl.py)."""


class Dist(NamedTuple):
    """One distribution's dist-info (or egg-info)."""

    name: str
    """normalised (PEP 503)"""
    version: str
    path: str
    site: str


class Site(NamedTuple):
    """One folder of the path and what lies in it."""

    path: str
    entries: Dict[str, Entry]


class Environment(NamedTuple):
    """An environment's folders and distributions, scanned once."""

    root: Root
    target: Any
    sites: List[Site]
    dists: Dict[str, Dist]
    prefix: str
    conda: List[str]
    """Names of the files in conda-meta; empty where the prefix is no conda environment."""
    loader: Loader
    """The search order of the target's interpreter; without one, of the machine."""
    loads: Dict[str, Tuple[Process, List[str]]]
    """What each framework would load, by name, as far as it was worked out already."""
    frameworks: List["Framework"]
    """The frameworks found, once they were looked for."""

    @property
    def python(self) -> str:
        """The interpreter's binary, or "" where it is not known."""
        return str(
            getattr(self.target, "base_executable", "") or getattr(self.target, "executable", "") or ""
        )

    def find(self, name: str) -> Optional[str]:
        """Return the first folder or file of this name on the path."""
        for site in self.sites:
            if name in site.entries:
                return f"{site.path}/{name}"
        return None

    def conda_record(self, *names: str) -> Optional[Tuple[str, str, str]]:
        """Return (name, version, build) of the first of these conda packages that is installed."""
        for name in names:
            for file in self.conda:
                stem = file[:-5].rsplit("-", 2)
                if len(stem) == 3 and stem[0] == name:
                    return stem[0], stem[1], stem[2]
        return None


class Framework(NamedTuple):
    """One framework that was found."""

    name: str
    folder: str
    """Its import folder, or the folder that its modules lie in."""
    dist: Optional[Dist]
    facts: Dict[str, Any]
    binaries: List[str]
    """Its own ELF files, those that matter."""


class _Extension(NamedTuple):
    """A compiled extension that is tied to a framework's ABI."""

    name: str
    dists: Tuple[str, ...]
    folder: str
    """Import folder; "" for modules that lie on the path itself."""
    binaries: Tuple[str, ...]
    quiet: bool = False
    """It is no part of the GPU stack: reported only where a library that it needs is missing."""


_EXTENSIONS = (
    _Extension("flash-attn", ("flash-attn",), "", ("flash_attn_2_cuda*.so", "flash_attn_cuda*.so")),
    _Extension("flash-attn-3", ("flash-attn-3",), "flash_attn_3", ("_C*.so",)),
    _Extension("xformers", ("xformers",), "xformers", ("_C*.so", "flash_attn_3/_C*.so")),
    _Extension("vllm", ("vllm",), "vllm", ("_C*.so", "_moe_C*.so", "_rocm_C*.so")),
    _Extension("apex", ("apex",), "", ("apex_C*.so", "amp_C*.so", "fused_layer_norm_cuda*.so")),
    _Extension("torchvision", ("torchvision",), "torchvision", ("_C*.so", "image*.so")),
    _Extension("torchaudio", ("torchaudio",), "torchaudio", ("lib/*.so", "_torchaudio*.so")),
    _Extension("torchcodec", ("torchcodec",), "torchcodec", ("libtorchcodec_core*.so", "libtorchcodec*.so")),
    _Extension("torchtext", ("torchtext",), "torchtext", ("lib/*.so", "_torchtext*.so")),
    _Extension("bitsandbytes", ("bitsandbytes",), "bitsandbytes", ("libbitsandbytes_cuda*.so",)),
    _Extension("deepspeed", ("deepspeed",), "deepspeed", ("ops/*.so", "ops/*/*.so")),
    _Extension(
        "transformer-engine",
        (
            "transformer-engine",
            "transformer-engine-cu12",
            "transformer-engine-cu13",
            "transformer-engine-torch",
        ),
        "transformer_engine",
        ("*.so", "wheel_lib/*.so", "pytorch/*.so"),
    ),
    _Extension("detectron2", ("detectron2",), "detectron2", ("_C*.so",)),
    _Extension("pytorch3d", ("pytorch3d",), "pytorch3d", ("_C*.so",)),
    _Extension("mamba-ssm", ("mamba-ssm",), "", ("selective_scan_cuda*.so",)),
    _Extension("causal-conv1d", ("causal-conv1d",), "", ("causal_conv1d_cuda*.so",)),
    _Extension("torch-scatter", ("torch-scatter",), "torch_scatter", ("_*.so",)),
    _Extension("torch-sparse", ("torch-sparse",), "torch_sparse", ("_*.so",)),
    _Extension("torch-cluster", ("torch-cluster",), "torch_cluster", ("_*.so",)),
    _Extension("torch-spline-conv", ("torch-spline-conv",), "torch_spline_conv", ("_*.so",)),
    _Extension("pyg-lib", ("pyg-lib",), "", ("libpyg*.so",)),
    _Extension("flashinfer", ("flashinfer-python", "flashinfer"), "flashinfer", ("_kernels*.so", "*.so")),
    _Extension("sgl-kernel", ("sgl-kernel",), "sgl_kernel", ("*.so", "sm*/*.so")),
    _Extension("auto-gptq", ("auto-gptq",), "", ("autogptq_cuda*.so", "exllama*_kernels*.so")),
    _Extension("grouped-gemm", ("grouped-gemm",), "", ("grouped_gemm_backend*.so",)),
    _Extension("mmcv", ("mmcv", "mmcv-full"), "mmcv", ("_ext*.so",)),
    _Extension("spconv", ("spconv",), "spconv", ("core_cc*.so",)),
    _Extension("ctranslate2", ("ctranslate2",), "ctranslate2", ("_ext*.so",)),
    _Extension("opencv-python", ("opencv-python", "opencv-contrib-python"), "cv2", ("cv2*.so",), quiet=True),
    _Extension("triton", ("triton", "pytorch-triton"), "triton", ("_C/libtriton*.so",)),
)


_QUIET = frozenset(extension.name for extension in _EXTENSIONS if extension.quiet)


def read_frameworks(
    root: Root, target: Any, environment: Optional[Environment] = None, cache: Optional[FileCache] = None
) -> Observation:
    """Observe ``framework``: every framework and ABI-coupled extension of the target, as far as files tell.

    ``environment`` is that of the target where the caller has scanned it already, ``cache`` one that is open.
    """
    seen = Observation()
    if target is None:
        seen.unobserved["framework"] = "no Python was found: VIRTUAL_ENV, CONDA_PREFIX and PATH name none"
        return seen
    environment = scan_environment(root, target) if environment is None else environment
    with FileCache(root, environment.prefix) if cache is None else nullcontext(cache) as held:
        environment.loader.remembered = held
        for framework in find_frameworks(environment):
            facts = framework.facts
            _, missing = simulate(environment, framework)
            if framework.name in _QUIET and not missing:
                continue
            _read_binaries(root, held, framework, seen)
            if missing:
                facts.setdefault("needs", {})["library"] = ", ".join(missing)
            seen.table("framework")[framework.name] = facts
    return seen


def scan_environment(root: Root, target: Any) -> Environment:
    """List the folders that the target imports from, and the distributions in them; the first of a name wins."""
    sites: List[Site] = []
    dists: Dict[str, Dist] = {}
    for raw in getattr(target, "site_packages", None) or ():
        path = str(getattr(raw, "path", raw)).rstrip("/")
        try:
            entries = {entry.name: entry for entry in root.scan(path)}
        except OSError:
            continue
        sites.append(Site(path, entries))
        for name in entries:
            if name[-5:].lower() != "-info":
                continue
            found = re.match(r"([A-Za-z0-9._]+)-([^-]+?)(?:-py\d[\d.]*)?\.(?:dist|egg)-info\Z", name, re.I)
            if found:
                key = normalise(found.group(1))
                dists.setdefault(key, Dist(key, found.group(2), f"{path}/{name}", path))
    prefix = str(getattr(target, "prefix", "") or "").rstrip("/")
    try:
        conda = [entry.name for entry in root.scan(prefix + "/conda-meta") if entry.name.endswith(".json")]
    except OSError:
        conda = []
    return Environment(root, target, sites, dists, prefix, conda, _loader_of(root, target), {}, [])


def _python_of(target: Any) -> str:
    return str(getattr(target, "base_executable", "") or getattr(target, "executable", "") or "")


def _loader_of(root: Root, target: Any) -> Loader:
    """Return the search order of the target's interpreter, or of the machine where there is none."""
    try:
        with root.open(_python_of(target)) as file:
            elf = read_elf(file)
    except (OSError, ElfError):
        return Loader(root, *_machine(root))
    return Loader(root, elf.machine, elf.bits, elf.interpreter)


def _machine(root: Root) -> Tuple[int, int]:
    """Return e_machine and word size of the machine's programs."""
    from envlock.probe.host import MACHINES, read_arch

    arch = read_arch(root)
    machine = next((machine for machine, name in MACHINES.items() if name == arch), 62)
    return machine, 32 if arch in ("i686", "armv7l") else 64


def normalise(name: str) -> str:
    """Return a project name as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def find_frameworks(environment: Environment) -> List[Framework]:
    """Return the frameworks of an environment with what their text files say; they are looked for once."""
    if environment.frameworks:
        return environment.frameworks
    readers: Sequence[Callable[[Environment], Optional[Framework]]] = (
        _find_torch, _find_jax, _find_jaxlib, _find_tensorflow, _find_cupy, _find_onnxruntime, _find_paddle,
    )  # fmt: skip
    found = [reader(environment) for reader in readers]
    found += [_find_extension(environment, extension) for extension in _EXTENSIONS]
    environment.frameworks.extend(framework for framework in found if framework is not None)
    return environment.frameworks


# ---- frameworks -----------------------------------------------------------------------------------------


def _find_torch(environment: Environment) -> Optional[Framework]:
    folder = environment.find("torch")
    root = environment.root
    text = try_read(root, f"{folder}/version.py", _SMALL) if folder else None
    dist = environment.dists.get("torch")
    if folder is None or (text is None and dist is None):
        return None
    told = parse_assignments(text or "")
    facts: Dict[str, Any] = {}
    _put(facts, "version", told.get("__version__") or (dist.version if dist else None))
    for key in ("cuda", "hip"):
        if key in told:
            facts[key] = told[key] or ""
    record = environment.conda_record("pytorch", "pytorch-gpu", "pytorch-cpu", "libtorch")
    facts["source"] = _source(root, dist, record)
    _expected(environment, dist, facts)
    if facts["source"] == "conda" and record is not None:
        built = re.search(r"cudnn(\d+\.\d+(?:\.\d+)?)", record[2])
        if built:
            facts["cudnn"] = built.group(1)
    binaries = _match(root, folder, ("lib/libtorch_cuda*.so", "lib/libtorch_hip.so", "lib/libc10*.so", "lib/libtorch_cpu.so",
                                     "lib/libtorch_python.so", "_C*.so"))  # fmt: skip
    if not binaries and record is not None:
        # conda-forge puts libtorch beside the other libraries of the prefix.
        binaries = _match(
            root, environment.prefix, ("lib/libtorch_cuda*.so", "lib/libc10*.so", "lib/libtorch_cpu.so")
        )
    return Framework("torch", folder, dist, facts, binaries)


def _find_jax(environment: Environment) -> Optional[Framework]:
    dist = environment.dists.get("jax")
    folder = environment.find("jax")
    if dist is None or folder is None:
        return None
    facts: Dict[str, Any] = {"version": dist.version}
    facts["source"] = _source(environment.root, dist, environment.conda_record("jax"))
    plugin = _plugin(environment, "jax-cuda", "-plugin")
    binaries: List[str] = []
    if plugin is not None:
        facts["cuda"] = re.sub(r"\D", "", plugin.name)
        _expected(environment, plugin, facts)
        binaries = _match(environment.root, plugin.site, ("jax_plugins/xla_cuda*/xla_cuda_plugin.so",))
    elif "jaxlib" in environment.dists:
        jaxlib = _jaxlib_facts(environment.dists["jaxlib"].version)
        facts.update({key: value for key, value in jaxlib.items() if key != "version"})
    return Framework("jax", folder, dist, facts, binaries)


def _find_jaxlib(environment: Environment) -> Optional[Framework]:
    dist = environment.dists.get("jaxlib")
    folder = environment.find("jaxlib")
    if dist is None or folder is None:
        return None
    facts = _jaxlib_facts(dist.version)
    record = environment.conda_record("jaxlib")
    facts["source"] = _source(environment.root, dist, record)
    if record is not None and facts["source"] == "conda":
        _put(facts, "cuda", _cuda_of_build(record[2]))
    elif _plugin(environment, "jax-cuda", "-plugin") is not None:
        facts.pop("cuda", None)
    binaries = _match(environment.root, folder, ("xla_extension*.so", "_jax*.so", "libjax_common.so"))
    return Framework("jaxlib", folder, dist, facts, binaries)


def _jaxlib_facts(version: str) -> Dict[str, Any]:
    """Read "0.4.25+cuda12.cudnn89": jaxlib up to 0.4.29 names its CUDA in the local version."""
    facts: Dict[str, Any] = {"version": version, "cuda": ""}
    local = re.search(r"\+cuda(\d{2})(\d?)(?:\.cudnn(\d)(\d{1,2}))?", version)
    if local:
        facts["cuda"] = local.group(1) + ("." + local.group(2) if local.group(2) else "")
        if local.group(3):
            facts["cudnn"] = f"{local.group(3)}.{local.group(4)}"
    return facts


def _plugin(environment: Environment, start: str, end: str) -> Optional[Dist]:
    names = [name for name in environment.dists if name.startswith(start) and name.endswith(end)]
    return environment.dists[max(names)] if names else None


def _find_tensorflow(environment: Environment) -> Optional[Framework]:
    folder = environment.find("tensorflow")
    names = (
        "tensorflow",
        "tensorflow-gpu",
        "tensorflow-cpu",
        "tf-nightly",
        "intel-tensorflow",
        "tensorflow-intel",
    )
    dist = _first_dist(environment, names)
    if folder is None or dist is None:
        return None
    text = try_read(environment.root, folder + "/python/platform/build_info.py", _SMALL) or ""
    told = parse_dictionary(text)
    facts: Dict[str, Any] = {"version": dist.version}
    record = environment.conda_record("tensorflow-base", "tensorflow")
    facts["source"] = _source(environment.root, dist, record)
    if told.get("is_cuda_build") == "False":
        facts["cuda"] = ""
    _put(facts, "cuda", told.get("cuda_version"))
    _put(facts, "cudnn", told.get("cudnn_version"))
    if told.get("cuda_compute_capabilities"):
        listed = re.findall(r"(?:sm|compute)_\d+[af]?", told["cuda_compute_capabilities"])
        facts["archs"] = [name for name in listed if name.startswith("sm_")]
        facts["ptx"] = [name for name in listed if name.startswith("compute_")]
    if facts["source"] == "conda" and record is not None and "cuda" not in facts:
        _put(facts, "cuda", _cuda_of_build(record[2]))
    _expected(environment, dist, facts)
    binaries = _match(environment.root, folder, ("libtensorflow_framework.so.*", "libtensorflow_cc.so.*",
                                                 "python/_pywrap_tensorflow_internal.so"))  # fmt: skip
    return Framework("tensorflow", folder, dist, facts, binaries)


def _find_cupy(environment: Environment) -> Optional[Framework]:
    folder = environment.find("cupy")
    names = sorted(
        name for name in environment.dists if name == "cupy" or name.startswith(("cupy-cuda", "cupy-rocm"))
    )
    if folder is None or not names:
        return None
    dist = environment.dists[names[-1]]
    facts: Dict[str, Any] = {"version": dist.version}
    record = environment.conda_record("cupy", "cupy-core")
    facts["source"] = _source(environment.root, dist, record)
    named = re.match(r"cupy-cuda(\d{2})(\d|x)", dist.name)
    if named:
        facts["cuda"] = named.group(1) + ("" if named.group(2) == "x" else "." + named.group(2))
    elif record is not None:
        _put(facts, "cuda", _cuda_of_build(record[2]))
    root = environment.root
    binaries = _match(root, folder, ("cuda/cub*.so", "cuda/thrust*.so", "cuda/cufft*.so", "_core/core*.so"))
    backends = environment.find("cupy_backends")
    if backends:
        binaries += _match(root, backends, ("cuda/libs/*.so", "cuda/api/runtime*.so"))
    return Framework("cupy", folder, dist, facts, binaries)


def _find_onnxruntime(environment: Environment) -> Optional[Framework]:
    folder = environment.find("onnxruntime")
    names = (
        "onnxruntime-gpu",
        "ort-nightly-gpu",
        "onnxruntime-training",
        "onnxruntime-directml",
        "onnxruntime",
        "ort-nightly",
    )
    dist = _first_dist(environment, names)
    if folder is None or dist is None:
        return None
    told = parse_assignments(
        try_read(environment.root, folder + "/capi/build_and_package_info.py", _SMALL) or ""
    )
    facts: Dict[str, Any] = {"version": told.get("__version__") or dist.version}
    facts["source"] = _source(
        environment.root, dist, environment.conda_record("onnxruntime", "onnxruntime-cpp")
    )
    binaries = _match(
        environment.root,
        folder,
        ("capi/libonnxruntime_providers_cuda.so", "capi/onnxruntime_pybind11_state*.so"),
    )
    if not any("providers_cuda" in path for path in binaries):
        facts["cuda"] = ""
    _put(facts, "cuda", told.get("cuda_version"))
    _put(facts, "cudnn", told.get("cudnn_version"))
    _expected(environment, dist, facts)
    return Framework("onnxruntime", folder, dist, facts, binaries)


def _find_paddle(environment: Environment) -> Optional[Framework]:
    folder = environment.find("paddle")
    dist = _first_dist(environment, ("paddlepaddle-gpu", "paddlepaddle"))
    if folder is None or dist is None:
        return None
    from envlock.probe.libraries import decode_nccl

    told = parse_assignments(try_read(environment.root, folder + "/version/__init__.py", _SMALL) or "")
    facts: Dict[str, Any] = {"version": told.get("full_version") or dist.version}
    facts["source"] = _source(environment.root, dist, None)
    for key, name in (("cuda", "cuda_version"), ("cudnn", "cudnn_version"), ("nccl", "nccl_version")):
        value = told.get(name)
        if value is not None:
            known = re.match(r"\d+(?:\.\d+)*", value or "")
            version = known.group() if known else ""
            if key == "nccl" and version.isdigit():  # its number, as nccl.h has it; 0 of a build without it
                version = decode_nccl(int(version[:6]))
            if version or key == "cuda":
                facts[key] = version
    _expected(environment, dist, facts)
    binaries = _match(
        environment.root, folder, ("base/libpaddle*.so", "fluid/libpaddle*.so", "libs/libphi*.so")
    )
    return Framework("paddle", folder, dist, facts, binaries)


def _find_extension(environment: Environment, extension: _Extension) -> Optional[Framework]:
    dist = _first_dist(environment, extension.dists)
    if dist is None:
        return None
    root = environment.root
    folder = (environment.find(extension.folder) or dist.site) if extension.folder else dist.site
    if extension.folder:
        binaries = _match(root, folder, extension.binaries) if folder != dist.site else []
    else:
        entries = next((site.entries for site in environment.sites if site.path == dist.site), {})
        names = {name for glob in extension.binaries for name in fitting(entries, glob)}
        binaries = [f"{dist.site}/{name}" for name in sorted(names)]
    facts: Dict[str, Any] = {"version": dist.version}
    facts["source"] = _source(root, dist, environment.conda_record(extension.name))
    told = parse_assignments(try_read(root, folder + "/version.py", _SMALL) or "") if extension.folder else {}
    if normalise(told.get("__version__") or "").startswith(normalise(dist.version)):
        facts["version"] = told["__version__"]
    if "cuda" in told:
        facts["cuda"] = told["cuda"] or ""
    _local_version(str(facts["version"]), facts)
    if extension.name == "xformers":
        _xformers_build(try_read(root, folder + "/cpp_lib.json", _SMALL) or "", facts)
    if "built_for" not in facts:
        pinned = _pins(root, dist).get("torch", "")
        if pinned.startswith("=="):
            facts["built_for"] = {"torch": pinned[2:]}
    return Framework(extension.name, folder, dist, facts, binaries[:_BINARY_LIMIT])


def _local_version(version: str, facts: Dict[str, Any]) -> None:
    """Read what builders put behind the plus: +cu12torch2.6cxx11abiFALSE, +pt24cu121, +cu124."""
    local = version.partition("+")[2]
    cuda = re.search(r"cu(?:da)?(\d{2})(\d{0,2})", local)
    if cuda and "cuda" not in facts:
        facts["cuda"] = cuda.group(1) + ("." + cuda.group(2) if cuda.group(2) else "")
    elif re.search(r"(?:^|\.|pt\d+)cpu(?:$|\.)", local):
        facts["cuda"] = ""
    torch = re.search(r"torch(\d+\.\d+(?:\.\d+)?)", local) or re.search(
        r"pt(\d)\.?(\d{1,2})(?=cu|cpu|$)", local
    )
    if torch:
        facts["built_for"] = {"torch": ".".join(group for group in torch.groups() if group)}
    abi = re.search(r"cxx11abi(TRUE|FALSE)", local, re.I)
    if abi:
        facts["cxx11_abi"] = abi.group(1).upper() == "TRUE"


def _xformers_build(text: str, facts: Dict[str, Any]) -> None:
    """Read xformers/cpp_lib.json, which its setup.py writes: CUDA as 1208, torch as "2.9.0+cu128"."""
    import json

    try:
        told = json.loads(text).get("version", {})
        cuda, torch = told.get("cuda"), told.get("torch")
    except (ValueError, AttributeError, RecursionError):
        return
    if isinstance(cuda, int) and 900 < cuda < 10000:
        facts["cuda"] = f"{cuda // 100}.{cuda % 100}"
    if isinstance(torch, str) and re.match(r"\d+\.\d+[\w.+]{0,40}\Z", torch):
        facts["built_for"] = {"torch": torch}


# ---- what text files say --------------------------------------------------------------------------------


def parse_assignments(text: str) -> Dict[str, Optional[str]]:
    """Return the module-level assignments of a version file; None stands for None, other values are left out."""
    found: Dict[str, Optional[str]] = {}
    for match in re.finditer(
        r"""^(\w{1,60})(?:\s*:[^=\n]{0,80})?\s*=\s*(?:(['"])([^'"\n]{0,200})\2|(None|False|True))""",
        text,
        re.M,
    ):
        name, _, value, word = match.groups()
        found[name] = value if value is not None else None if word == "None" else word
    return found


def parse_dictionary(text: str) -> Dict[str, str]:
    """Return the entries of a dictionary written on paper, values as text: {'name': value} or [('name', value)].

    TensorFlow's build_info is either, after the Python that its wheel was built with (tools/build_info/gen_build_info.py).
    """
    value = r"""\s*(?:["']([^"'\n]{0,200})["']|(True|False)|(\[[^\]]{0,2000}\]))"""
    entry = r"""(?:["'](\w{1,60})["']\s*:|\(\s*["'](\w{1,60})["']\s*,)""" + value
    found = re.findall(entry, text)
    return {name or first: text or word or listed for name, first, text, word, listed in found}


def _first_dist(environment: Environment, names: Sequence[str]) -> Optional[Dist]:
    return next((environment.dists[name] for name in names if name in environment.dists), None)


def _source(root: Root, dist: Optional[Dist], record: Optional[Tuple[str, str, str]]) -> str:
    if record is not None:
        installer = (try_read(root, dist.path + "/INSTALLER", 4096) or "conda") if dist else "conda"
        if installer.strip() == "conda":
            return "conda"
    return "pip" if dist is not None else "file"


def _pins(root: Root, dist: Dist) -> Dict[str, str]:
    """Return what a distribution requires, by project, as its version specifier; the first of a name wins."""
    text = (
        try_read(root, dist.path + "/METADATA", _SMALL)
        or try_read(root, dist.path + "/PKG-INFO", _SMALL)
        or ""
    )
    pins: Dict[str, str] = {}
    for name, specifier in re.findall(
        r"^Requires-Dist:\s*([A-Za-z0-9._-]+)(?:\[[^\]\n]*\])?\s*\(?([^;()\n]*)",
        text.partition("\n\n")[0],
        re.M,
    ):
        pins.setdefault(normalise(name), specifier.strip())
    return pins


def _expected(environment: Environment, dist: Optional[Dist], facts: Dict[str, Any]) -> None:
    """Record the cuDNN and NCCL that a wheel pins: nvidia-cudnn-cu12==9.1.0.70 is cuDNN 9.1.0."""
    if dist is None:
        return
    for name, specifier in _pins(environment.root, dist).items():
        found = re.match(r"nvidia-(cudnn|nccl)(?:-cu\d+)?\Z", name)
        # A lower bound is what jax was built with for cuDNN (it checks that at start); of NCCL it tells nothing.
        version = re.search(r"(==|~=|>=)\s*(\d+(?:\.\d+)*)", specifier)
        if not found or not version or (version.group(1) == ">=" and found.group(1) == "nccl"):
            continue
        if found.group(1) not in facts:
            facts[found.group(1)] = ".".join(version.group(2).split(".")[:3])


def _cuda_of_build(build: str) -> Optional[str]:
    """Read the CUDA out of a conda build string: cuda120py311h..., cuda12.4_..., cpu_... ("")."""
    found = re.search(r"cuda[_-]?(\d{2})\.?(\d)?", build)
    if found:
        return found.group(1) + ("." + found.group(2) if found.group(2) else "")
    return "" if re.search(r"(?:^|_)cpu", build) else None


def _put(facts: Dict[str, Any], key: str, value: Optional[str]) -> None:
    if value is not None and value != "":
        facts[key] = value
    elif value == "":
        facts.setdefault(key, value)


def fitting(names: Iterable[str], pattern: str) -> List[str]:
    """Return the names that match as fnmatch does; most patterns are a start and an end, and need no expression."""
    start, star, end = pattern.partition("*")
    numbered = end.endswith(_DIGIT)  # libcudnn.so.*[0-9], as torch's own list has it
    end = end[: -len(_DIGIT)] if numbered else end
    if not star or any(letter in start + end for letter in "*?["):
        import fnmatch

        return [name for name in names if fnmatch.fnmatchcase(name, pattern)]
    least = len(start) + len(end) + numbered
    return [
        name
        for name in names
        if name.startswith(start)
        and len(name) >= least
        and (name[-1] in _DIGITS and name.endswith(end, 0, -1) if numbered else name.endswith(end))
    ]


def _match(root: Root, folder: str, globs: Sequence[str]) -> List[str]:
    """Return the files below a folder that match, in the order of the patterns; a pattern may name folders."""
    found: List[str] = []
    for glob in globs:
        parts = glob.split("/")
        places = [folder]
        for depth, part in enumerate(parts):
            last = depth == len(parts) - 1
            if not last and not any(letter in part for letter in "*?["):
                places = [f"{place}/{part}" for place in places]
                continue
            inside: List[str] = []
            for place in places[:_BINARY_LIMIT]:
                try:
                    entries = root.scan(place)
                except OSError:
                    continue
                names = [entry.name for entry in entries if (entry.is_file if last else entry.is_dir)]
                inside += [f"{place}/{name}" for name in fitting(names, part)]
            places = inside
        found += [path for path in places if path not in found]
    return found[:_BINARY_LIMIT]


# ---- what binaries say ----------------------------------------------------------------------------------


def _read_binaries(root: Root, cache: FileCache, framework: Framework, seen: Observation) -> None:
    """Add GPU code, ABI and needed symbol versions of the framework's own binaries."""
    from envlock.probe.fatbin import supported

    archs: Dict[str, int] = {}
    ptx: Dict[str, int] = {}
    libc: List[str] = []
    libstdcxx: List[str] = []
    abi: Optional[bool] = None
    trouble = ""
    for path in framework.binaries:
        try:
            told = cache.remember("binary", path, lambda path=path: describe_binary(root, path))  # type: ignore[misc]
        except (OSError, ElfError) as error:
            trouble = f"{path} cannot be read: {error}"
            continue
        _add(archs, told["archs"])
        _add(ptx, told["ptx"])
        libc += [told["libc"]] if told["libc"] else []
        libstdcxx += [told["libstdcxx"]] if told["libstdcxx"] else []
        if told["cxx11_abi"] is not None:
            abi = told["cxx11_abi"] if abi is None else abi
    facts = framework.facts
    if archs or ptx:
        facts.setdefault("archs", supported(archs))
        facts.setdefault(
            "ptx", [arch for arch in supported(ptx) if 2 * ptx[arch] >= max([0, *archs.values()])]
        )
    if abi is not None and framework.name not in ("jaxlib", "tensorflow"):
        facts.setdefault("cxx11_abi", abi)
    needs = facts.setdefault("needs", {})
    if libc:
        needs["libc"] = "glibc " + str(newest_version(libc, "GLIBC_"))[len("GLIBC_") :]
    if libstdcxx:
        needs["libstdcxx"] = newest_version(libstdcxx, "GLIBCXX_")
    if not needs:
        del facts["needs"]
    if trouble and not archs:
        seen.unobserved[f"framework.{framework.name}.archs"] = trouble[:300]


def describe_binary(root: Root, path: str) -> Dict[str, Any]:
    """Return what a binary's headers say, as plain values: GPU code, newest needed versions, its C++ ABI.

    Raises OSError and ElfError.
    """
    from envlock.probe.fatbin import read_gpu_code

    with root.open(path) as file:
        elf = read_elf(file)
        code = read_gpu_code(file, elf)
        versions = [version for names in read_needed_versions(file, elf).values() for version in names]
        strings = read_sections(file, elf).get(".dynstr")
        abi = None
        if strings is not None and strings.size <= _STRINGS_LIMIT:
            file.seek(strings.offset)
            abi = _cxx11_abi(file.read(strings.size))
    return {
        "archs": code.archs,
        "ptx": code.ptx,
        "libc": newest_version(versions, "GLIBC_"),
        "libstdcxx": newest_version(versions, "GLIBCXX_"),
        "cxx11_abi": abi,
    }


def _cxx11_abi(names: bytes) -> Optional[bool]:
    """Tell which std::string the symbols of torch's C++ interface are mangled with.

    ``NSt7__cxx11`` is the new one; the old one is abbreviated to ``Ss``. Only names of namespaces c10, at
    and torch count: a static libstdc++ brings both kinds.
    """
    if re.search(rb"\x00_ZNK?(?:3c10|2at|5torch)\w*?NSt7__cxx1112basic_string", names):
        return True
    return (
        False if re.search(rb"\x00_ZNK?(?:3c10|2at|5torch)\w*?(?:E|R|K|\d_)Ss(?:\x00|[A-Z])", names) else None
    )


def _add(counts: Dict[str, int], more: Dict[str, int]) -> None:
    for arch, count in more.items():
        counts[arch] = counts.get(arch, 0) + count


# ---- what it would load ---------------------------------------------------------------------------------


def simulate(environment: Environment, framework: Framework) -> Tuple[Process, List[str]]:
    """Load a framework on paper into the target's Python.

    Returns the process, and the sonames that are needed and not found, the driver's own left out.
    """
    if framework.name not in environment.loads:
        environment.loads[framework.name] = _simulate(environment, framework)
    return environment.loads[framework.name]


def _simulate(environment: Environment, framework: Framework) -> Tuple[Process, List[str]]:
    process = Process(environment.loader, environment.python)
    missing: List[str] = []
    if framework.name == "torch":
        missing = _load_torch(environment, framework, process)
    elif framework.name in ("tensorflow", "jax", "jaxlib"):
        missing = _load_xla(environment, framework, process)
    elif framework.name == "cupy":
        missing = _load_cupy(environment, framework, process)
    else:
        torch = _find_torch(environment) if _needs_torch(environment.loader, framework) else None
        if torch is not None:
            _load_torch(environment, torch, process)
        for path in framework.binaries[:16]:
            missing += [one.soname for one in process.open(path).missing]
    _open_cudnn_parts(process)
    # A name of other letters is no library of anybody's, but a damaged or hostile file's.
    kept = [soname for soname in dict.fromkeys(missing) if re.match(r"[\w.+-]{1,100}\Z", soname, re.A)]
    return process, [soname for soname in kept if not _DRIVER.match(soname)][:_MISSING_LIMIT]


def _needs_torch(loader: Loader, framework: Framework) -> bool:
    headers = [loader.elf(path) for path in framework.binaries[:16]]
    return any(
        elf is not None and any(name.startswith(("libtorch", "libc10")) for name in elf.needed)
        for elf in headers
    )


def _load_torch(environment: Environment, framework: Framework, process: Process) -> List[str]:
    """Follow torch/__init__.py: libtorch_global_deps first; the nvidia wheels by path if that fails."""
    root, folder = environment.root, framework.folder
    deps = f"{folder}/lib/libtorch_global_deps.so"
    if root.is_file(deps):
        failed = process.open(deps, strict=True).missing
        text = try_read(root, folder + "/__init__.py", 4 * _SMALL)
        major = str(framework.facts.get("cuda", "")).partition(".")[0]
        if any(re.match(r"lib(?:cu|nv|nccl)", one.soname) for one in failed):
            for part, pattern in _torch_preloads(text):
                _preload(environment, process, part, pattern, major)
            process.open(deps)
        elif process.loaded(r"libcudart\.so"):
            if re.search(r"_preload_cuda_deps\(required=False\)", text or ""):
                for part, pattern in _torch_preloads(text):
                    _preload(environment, process, part, pattern, major)
            elif _preloads_early(framework, text):
                for part, pattern in _TORCH_EARLY:
                    if not _preload(environment, process, part, pattern, major):
                        break  # the first that is not there raises, and the rest is passed over
    modules = [path for path in framework.binaries if path.startswith(folder + "/_C")]
    missing = []
    for path in modules or framework.binaries:
        missing += [one.soname for one in process.open(path).missing]
    for later in (
        "libcaffe2_nvrtc.so",
        "libtorch_cuda_linalg.so",
    ):  # opened when first needed (LazyNVRTC.cpp)
        if root.is_file(f"{folder}/lib/{later}"):
            missing += [one.soname for one in process.open(f"{folder}/lib/{later}").missing]
    return missing


def _torch_preloads(text: Optional[str]) -> Sequence[Tuple[str, str]]:
    """Return the pairs of folder and file that _preload_cuda_deps lists in a torch/__init__.py."""
    listed = (text or "").partition("def _preload_cuda_deps(")[2].partition("\ndef ")[0]
    pairs = re.findall(
        r"""["'](\w{1,40})["']\s*[:,]\s*["'](lib[\w-]{1,40}\.so[\w.*\[\]-]{0,40})["']""", listed
    )
    return pairs or tuple(_TORCH_PRELOADS.items())


def _preloads_early(framework: Framework, text: Optional[str]) -> bool:
    """Tell whether this torch opens nvrtc and nvjitlink of the wheels before all else (since 2.6)."""
    if text is not None:
        return re.search(r"_preload_cuda_(?:deps|lib)\(\s*\"nvjitlink\"", text) is not None
    version = re.match(r"(\d+)\.(\d+)", str(framework.facts.get("version", "")))
    return version is not None and (int(version.group(1)), int(version.group(2))) >= (2, 6)


def _preload(environment: Environment, process: Process, part: str, pattern: str, major: str = "13") -> bool:
    """Open the first file of an nvidia wheel on the path, as _preload_cuda_deps does; False if there is none."""
    for site in environment.sites:
        if "nvidia" not in site.entries and part not in site.entries:
            continue
        for folder in (f"nvidia/{part}/lib", f"nvidia/cu{major}/lib", f"{part}/lib"):
            paths = _match(environment.root, f"{site.path}/{folder}", (pattern,))
            if paths:
                opened = process.open(paths[0]).objects
                if opened:
                    opened[0].how = f"opened by its path in {folder} before all else"
                return True
    return False


def _load_xla(environment: Environment, framework: Framework, process: Process) -> List[str]:
    """Follow TensorFlow and XLA: their own binaries, then CUDA libraries by name when a GPU is first used."""
    missing: List[str] = []
    if framework.name == "jax":
        _preload_jax(environment, framework, process)
    for path in framework.binaries:
        missing += [one.soname for one in process.open(path).missing]
    major = str(framework.facts.get("cuda", "")).partition(".")[0]
    if major not in _SONAMES:
        return missing
    callers = [
        one
        for one in process.objects
        if one.path.rpartition("/")[2] in {p.rpartition("/")[2] for p in framework.binaries}
    ]
    cudnn = str(framework.facts.get("cudnn", "")).partition(".")[0] or ("9" if major >= "12" else "8")
    for name in [*_SONAMES[major].split(), f"cudnn.so.{cudnn}", "nccl.so.2"]:
        for caller in callers:
            if process.open("lib" + name, caller).objects or process.find("lib" + name):
                break
        else:
            if name.startswith(("cudart", "cublas.", "cudnn", "cusolver", "cusparse")) and callers:
                missing.append("lib" + name)
    return missing


def _load_cupy(environment: Environment, framework: Framework, process: Process) -> List[str]:
    """Follow CuPy: the wheels' libraries by path where it has cuda-pathfinder find them, then its own modules."""
    if framework.dist is not None and "cuda-pathfinder" in _pins(environment.root, framework.dist):
        for part, pattern in _CUPY_PRELOADS:
            _preload(environment, process, part, pattern, str(framework.facts.get("cuda", ""))[:2])
    missing = [one.soname for path in framework.binaries[:16] for one in process.open(path).missing]
    return [soname for soname in missing if not _CUPY_OPTIONAL.match(soname)]


def _preload_jax(environment: Environment, framework: Framework, process: Process) -> None:
    """Follow jax_plugins/xla_cuda12/__init__.py (_load_nvidia_libraries): the wheels' libraries by path, in its order."""
    for path in framework.binaries:
        text = try_read(environment.root, path.rpartition("/")[0] + "/__init__.py", _SMALL) or ""
        for part, names in re.findall(r"""^  _load\(["'](\w+)["'], \[([^\]\n]{0,400})\]\)""", text, re.M):
            for name in re.findall(r"""["'](lib[\w.-]+)["']""", names):
                _preload(environment, process, part, name)


def _open_cudnn_parts(process: Process) -> None:
    """Open the sublibraries of the cuDNN that is loaded, as it does itself: by full version, then by major."""
    for one in list(process.objects):
        found = re.match(r"libcudnn\.so\.(\d+)", one.elf.soname or one.file)
        major = found.group(1) if found else ""
        full = re.search(r"\.so\.(\d+\.\d+\.\d+)", process.real(one))
        versions = [".".join(full.group(1).split(".")[:count]) for count in (3, 2)] if full else []
        for part in _CUDNN_PARTS.get(major, ()):
            for version in [*versions, major]:
                name = f"libcudnn_{part}.so.{version}"
                process.open(name, one)
                if process.find(name):
                    break
