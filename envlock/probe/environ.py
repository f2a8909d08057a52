"""The environment variables that change how a GPU program behaves: by name and prefix, secrets masked.

Only what is on the lists below is recorded. Left out is what differs from process to process of one
job (ranks, ports, job ids) and what names people or machines; the home folder in a path becomes "~",
a GPU's UUID "GPU-***". A value is recorded whole, PATH is not recorded at all.
"""

# ruff: noqa: SIM905 - names as text, since a list of them is formatted to sixty lines
import re

from envlock.probe.observation import Observation
from envlock.probe.redact import MASK, mask_value, strip_home
from envlock.probe.root import Root

NAMES = frozenset(
    "LD_LIBRARY_PATH LD_PRELOAD LD_BIND_NOW LD_AUDIT LIBRARY_PATH CPATH CC CXX CFLAGS CXXFLAGS CPPFLAGS LDFLAGS"
    " MAX_JOBS NVCC_APPEND_FLAGS NVCC_PREPEND_FLAGS NVCC_CCBIN LANG LC_ALL LC_CTYPE TZ VIRTUAL_ENV CONDA_PREFIX"
    " CONDA_DEFAULT_ENV CONDA_OVERRIDE_CUDA CONDA_OVERRIDE_GLIBC HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY"
    " TOKENIZERS_PARALLELISM TRANSFORMERS_OFFLINE FORCE_CUDA BUILD_CUDA_EXT USE_CUDA USE_NCCL OMPI_MCA_BTL"
    " MALLOC_ARENA_MAX MALLOC_CONF GOMP_CPU_AFFINITY GOMP_SPINCOUNT GOTO_NUM_THREADS VECLIB_MAXIMUM_THREADS"
    " RDMAV_FORK_SAFE IBV_FORK_SAFE RDMAV_HUGEPAGES_SAFE MKLROOT HPCX_HOME MPI_HOME NCCL_HOME SETUPTOOLS_USE_DISTUTILS"
    " PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION SSL_CERT_FILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE KERAS_BACKEND"
    " ACCELERATE_USE_DEEPSPEED DS_BUILD_OPS DS_SKIP_CUDA_CHECK XDG_CACHE_HOME TMPDIR".split()
)
"""Compared in upper case, so that http_proxy and HTTP_PROXY are both known."""

PREFIXES = (
    "PYTHON", "CUDA_", "CUDNN_", "CUBLAS_", "CUBLASLT_", "NVIDIA_", "NVTE_", "NVSHMEM_", "NVFUSER_", "NCCL_",
    "TORCH_", "PYTORCH_", "TORCHINDUCTOR_", "TORCHDYNAMO_", "AOT_", "CUPY_", "NUMBA_", "NUMEXPR_", "TF_", "XLA_",
    "JAX_", "OMP_", "MKL_", "KMP_", "OPENBLAS_", "BLIS_", "UCX_", "UCC_", "OMPI_MCA_", "FI_", "PSM2_", "MPICH_",
    "I_MPI_", "TRITON_", "HF_", "TRANSFORMERS_", "DIFFUSERS_", "VLLM_", "FLASH_ATTENTION_", "FLASH_ATTN_",
    "XFORMERS_", "DEEPSPEED_", "BNB_", "BITSANDBYTES_", "ORT_", "TENSORRT_", "HOROVOD_", "RAY_", "ACCELERATE_",
    "PADDLE_", "FLAGS_", "GLOO_", "DLI_", "MAGMA_", "TVM_", "PJRT_",
)  # fmt: skip

_OF_ONE_PROCESS = tuple(
    "_" + word
    for word in (
        "RANK WORLD_SIZE MASTER_ADDR MASTER_PORT COMM_ID RUN_ID JOB_ID NODE_ID WORKER_ID TRAINER_ID TRAINER_ENDPOINTS"
        " CURRENT_ENDPOINT PORT HOSTNAME HOST HOSTS HOSTFILE USER USERNAME PID SESSION_NAME ADDRESS ENDPOINT ENDPOINTS"
    ).split()
)
"""Words at the end of names that one process of a job has for itself: ranks, addresses, ports, ids, sockets."""
_LAUNCHERS = (
    "OMPI_MCA_ORTE", "OMPI_MCA_ESS", "OMPI_MCA_PMIX", "OMPI_MCA_PRTE", "OMPI_MCA_INITIAL", "OMPI_MCA_SHMEM",
    "OMPI_MCA_MPI_YIELD", "RAY_JOB", "RAY_RAYLET", "RAY_NODE", "RAY_WORKER", "RAY_CLIENT", "TF_CLI_", "HOROVOD_GLOO",
    "HOROVOD_CROSS", "HOROVOD_LOCAL", "HOROVOD_SIZE", "I_MPI_HYDRA",
)  # fmt: skip
"""Prefixes of what launchers tell the processes that they start."""
_NOISE = frozenset("TF_CONFIG PYTHONHISTORY PYTHON_HISTORY PYTHONSTARTUP PYTHON_STARTUP".split())
_DEVICE_UUID = re.compile(r"\b((?:GPU|MIG)-)(?:GPU-)?[0-9a-fA-F]{8}-[0-9a-fA-F-]{4,27}")

MOST_TEXT = 8192
"""Characters of a value that are recorded at most."""


def read_environ(root: Root) -> Observation:
    """Read [environ]; a folder has no environment, so that nothing is observed there."""
    seen = Observation()
    if root.kind == "root" and not root.environ:
        seen.unobserved["environ"] = "a folder has no environment variables"
        return seen
    home = root.environ.get("HOME", "")
    table = seen.table("environ")
    for name in sorted(root.environ):
        if is_recorded(name):
            table[name] = clean_value(name, root.environ[name], home)
    return seen


def is_recorded(name: str) -> bool:
    """Tell whether a variable changes behaviour and is the same for every process of a job."""
    upper = name.upper()
    if not re.match(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z", name):
        return False
    return (upper in NAMES or upper.startswith(PREFIXES)) and not is_of_one_process(name)


def is_of_one_process(name: str) -> bool:
    """Tell whether a variable is one process's alone: its rank, port, session, or what its launcher tells it."""
    upper = name.upper()
    return upper in _NOISE or upper.startswith(_LAUNCHERS) or ("_" + upper).endswith(_OF_ONE_PROCESS)


def clean_value(name: str, text: str, home: str) -> str:
    """Return a value as it may be written down: secrets, device UUIDs and the home folder masked."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    text = mask_value(name, text[:MOST_TEXT])
    return strip_home(_DEVICE_UUID.sub(r"\1" + MASK, text), home)
