"""Which CUDA libraries TensorFlow, JAX, CuPy and ONNX Runtime load, beside what their real processes have mapped.

Each is installed for the run (2 to 5 GB); ENVLOCK_HEAVY_TENSORFLOW and its like name a prefix that has it already.
No GPU is needed: the libraries are asked for their versions through the framework's own way to them.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from envlock.probe.frameworks import find_frameworks, scan_environment, simulate
from envlock.probe.target import find_target
from envlock.roots.live import LiveRoot
from tests.heavy_support import heavy_prefix

pytestmark = pytest.mark.heavy

MAPS = "print(json.dumps([line.split(maxsplit=5)[5].strip() for line in open('/proc/self/maps') if '.so' in line]))"

TENSORFLOW = """
import ctypes, json, os, tensorflow
# Its stubs open the libraries by name when they are first called.
stubs = ctypes.CDLL(os.path.dirname(tensorflow.__file__) + "/libtensorflow_framework.so.2")
for name in ("cudaRuntimeGetVersion", "cudnnGetVersion", "ncclGetVersion", "cublasGetCudartVersion", "cublasLtGetVersion",
             "cufftGetVersion", "cusparseGetErrorName", "cuptiGetVersion"):
    getattr(stubs, name)(ctypes.byref(ctypes.c_int(0)))
"""
ONNXRUNTIME = """
import ctypes, json, os, sys, onnxruntime
folder = os.path.dirname(onnxruntime.__file__) + "/capi/"
ctypes.CDLL(folder + "libonnxruntime_providers_shared.so")
try:
    ctypes.CDLL(folder + "libonnxruntime_providers_cuda.so")
except OSError as error:  # names the first library that is not found
    print(error, file=sys.stderr)
"""
JAX = """
import json, jax
try:
    jax.devices()
except Exception:  # without a driver there is no GPU; the wheels' libraries are loaded before that is known
    pass
"""
CUPY = """
import json, cupy
from cupy_backends.cuda import libs
for name in ("cublas", "cusolver", "cusparse", "nvrtc"):
    getattr(libs, name)
cupy.cuda.cufft
"""


def mapped(prefix, program, environ):
    """Return the CUDA libraries that a real process has mapped at its end, and what it said of missing ones."""
    done = subprocess.run(
        [f"{prefix}/bin/python", "-c", program + MAPS],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = {os.path.realpath(path) for path in json.loads(done.stdout.splitlines()[-1])}
    libraries = {path for path in paths if os.path.basename(path).startswith("lib")}
    return {path for path in libraries if "/nvidia/" in path or "/cuda" in path}, done.stderr


def on_paper(prefix, name, environ):
    """Return the files of the process on paper, and the sonames that it does not find."""
    root = LiveRoot(environ)
    environment = scan_environment(root, find_target(root, prefix=str(prefix)))
    framework = next(one for one in find_frameworks(environment) if one.name == name)
    process, missing = simulate(environment, framework)
    return {os.path.realpath(one.path) for one in process.objects}, missing


@pytest.mark.parametrize(
    ("name", "program", "requirements", "least"),
    [
        ("tensorflow", TENSORFLOW, ("tensorflow[and-cuda]",), {"libcudart", "libcudnn", "libnccl", "libcublas"}),
        ("onnxruntime", ONNXRUNTIME, ("onnxruntime-gpu",), set()),
        ("jax", JAX, ("jax[cuda12]",), {"libcudart", "libcudnn", "libcublas"}),
        ("cupy", CUPY, ("cupy-cuda12x[ctk]",), {"libcublas", "libcufft", "libcusolver"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shadowed", [False, True])
def test_the_real_process_maps_what_is_worked_out(
    tmp_path, tmp_path_factory, name, program, requirements, least, shadowed
):
    folder = tmp_path_factory.getbasetemp() / f"{name}-venv"
    prefix = (
        folder if folder.is_dir() else heavy_prefix(f"ENVLOCK_HEAVY_{name.upper()}", folder, requirements)
    )
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    if shadowed:
        environ["LD_LIBRARY_PATH"] = shadow(prefix, tmp_path / "cuda-shadow")
    real, said = mapped(prefix, program, environ)
    paper, missing = on_paper(prefix, name, environ)
    assert real - paper == set()
    assert least <= {os.path.basename(path).partition(".so")[0] for path in real}
    assert all(soname in missing for soname in said.split(":")[:1] if soname.startswith("lib"))


def shadow(prefix, folder):
    """Copy the cudart and cuFFT of a wheel to where LD_LIBRARY_PATH will have them found; return that folder."""
    folder.mkdir()
    for name in ("libcudart", "libcufft"):
        for library in Path(prefix).glob(f"lib/python3.*/site-packages/nvidia/*/lib/{name}.so.*"):
            (folder / library.name).write_bytes(library.read_bytes())
    return str(folder)
