"""What frameworks were built with, from files as they lie in real wheels, and what they would load."""

import fnmatch
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envlock.probe.frameworks import (
    find_frameworks,
    fitting,
    parse_assignments,
    parse_dictionary,
    read_frameworks,
    scan_environment,
    simulate,
)
from envlock.roots.folder import FolderRoot
from envlock.roots.live import LiveRoot
from tests.elf_support import make_dist, make_library, make_nvidia_wheels, make_torch, needs_gcc
from tests.probe.test_fatbin import CUBIN, PTX, entry, fat_binary


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "lib/python3.11/site-packages"
    folder.mkdir(parents=True)
    return folder


def frameworks(site: Path, environ=None, program: str = ""):
    target = SimpleNamespace(prefix=str(site.parents[2]), site_packages=[str(site)], base_executable=program)
    return read_frameworks(LiveRoot(environ or {}), target)


@needs_gcc
def test_torch_from_its_text_its_pins_and_its_binaries(site):
    make_torch(site)
    torch = frameworks(site).facts["framework"]["torch"]
    assert set(torch.pop("needs")) == {"libc"}
    assert torch == {
        "version": "2.4.0+cu124",
        "cuda": "12.4",
        "hip": "",
        "source": "pip",
        "cudnn": "9.1.0",
        "nccl": "2.20.5",
        "cxx11_abi": False,
    }


@needs_gcc
def test_what_no_search_finds_is_named(site):
    make_torch(site)
    (site / "nvidia/nccl/lib/libnccl.so.2").unlink()
    (site / "nvidia/cuda_runtime/lib/libcudart.so.12").unlink()
    needs = frameworks(site).facts["framework"]["torch"]["needs"]
    assert needs["library"].split(", ") == ["libnccl.so.2", "libcudart.so.12"]


@needs_gcc
def test_what_the_driver_brings_is_not_called_missing(site):
    make_torch(site)
    driver = make_library(site / "libcuda.so.1", soname="libcuda.so.1")
    make_library(site / "torch/lib/libcaffe2_nvrtc.so", [driver])
    driver.unlink()
    assert "library" not in frameworks(site).facts["framework"]["torch"]["needs"]


@needs_gcc
def test_gpu_code_is_read_from_the_binary(site):
    make_torch(site)
    blob = site / "code.bin"
    blob.write_bytes(
        fat_binary(entry(CUBIN, 80), entry(CUBIN, 90), entry(PTX, 90)) * 3
        + fat_binary(entry(CUBIN, 80), entry(CUBIN, 89))
    )
    source = f'__asm__(".section .nv_fatbin,\\"a\\"\\n.incbin \\"{blob}\\"\\n.text");'
    make_library(site / "torch/lib/libtorch_cuda.so", soname="libtorch_cuda.so", source=source)
    torch = frameworks(site).facts["framework"]["torch"]
    assert torch["archs"] == ["sm_80", "sm_90"]
    assert torch["ptx"] == ["compute_90"]


@needs_gcc
def test_what_was_read_once_is_remembered_until_the_file_changes(site, tmp_path):
    make_torch(site)
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    first = frameworks(site, environ).facts
    (cache,) = (tmp_path / "cache/envlock").iterdir()
    held = json.loads(cache.read_text())
    for key, value in held["files"].items():
        if key.startswith("binary:"):
            held["files"][key] = {**value, "archs": {"sm_99": 1}}
    cache.write_text(json.dumps(held))
    assert frameworks(site, environ).facts["framework"]["torch"]["archs"] == ["sm_99"]
    for path in (site / "torch").rglob("*.so"):
        path.write_bytes(path.read_bytes() + b"\0")
    assert frameworks(site, environ).facts == first


@needs_gcc
@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema": "envlock-files/3", "files": []}', "[" * 100_000]
)
def test_a_broken_cache_costs_nothing(site, tmp_path, content):
    make_torch(site)
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    frameworks(site, environ)
    (cache,) = (tmp_path / "cache/envlock").iterdir()
    cache.write_text(content)
    assert frameworks(site, environ).facts["framework"]["torch"]["cuda"] == "12.4"
    assert frameworks(site, {"XDG_CACHE_HOME": "/proc/nowhere"}).facts["framework"]["torch"]["cuda"] == "12.4"


def test_a_cpu_build_says_so(site):
    (site / "torch").mkdir()
    (site / "torch/version.py").write_text(
        "__version__ = '2.4.0+cpu'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n"
    )
    make_dist(site, "torch", "2.4.0+cpu")
    torch = frameworks(site).facts["framework"]["torch"]
    assert torch == {"version": "2.4.0+cpu", "cuda": "", "hip": "", "source": "pip"}


def test_a_conda_build_is_read_from_its_build_string(site):
    prefix = site.parents[2]
    (prefix / "conda-meta").mkdir()
    (prefix / "conda-meta/pytorch-2.4.0-py3.11_cuda12.4_cudnn9.1.0_0.json").write_text("{}")
    (site / "torch").mkdir()
    (site / "torch/version.py").write_text("__version__ = '2.4.0'\ncuda = '12.4'\nhip = None\n")
    (make_dist(site, "torch", "2.4.0") / "INSTALLER").write_text("conda\n")
    torch = frameworks(site).facts["framework"]["torch"]
    assert (torch["source"], torch["cudnn"], torch["cuda"]) == ("conda", "9.1.0", "12.4")


def test_version_files_of_torch_are_text(site):
    """As setup.py wrote them over the years; what is no assignment is not evaluated."""
    assert parse_assignments("__version__ = '1.13.1+cu117'\ndebug = False\ncuda = '11.7'\nhip = None\n") == {
        "__version__": "1.13.1+cu117",
        "debug": "False",
        "cuda": "11.7",
        "hip": None,
    }
    assert parse_assignments("__version__ = __import__('os').system('x')\n  cuda = '1'\n") == {}


BUILD_INFO = """
build_info = collections.OrderedDict([('cpu_compiler', '/usr/lib/llvm-18/bin/clang')])
build_info = {
    "cpu_compiler": "/usr/lib/llvm-18/bin/clang",
    "cuda_compute_capabilities": [
        "sm_60", "sm_70", "sm_80", "sm_89", "compute_90"
    ],
    "cuda_version": "12.5.1",
    "cudnn_version": "9",
    "is_cuda_build": True,
    "is_rocm_build": False
}
"""


def test_tensorflow_tells_its_build_in_a_dictionary(site):
    (site / "tensorflow/python/platform").mkdir(parents=True)
    (site / "tensorflow/python/platform/build_info.py").write_text(BUILD_INFO)
    make_dist(
        site,
        "tensorflow",
        "2.19.0",
        metadata="Requires-Dist: nvidia-cudnn-cu12==9.3.0.75; extra == 'and-cuda'\n",
    )
    assert frameworks(site).facts["framework"]["tensorflow"] == {
        "version": "2.19.0",
        "source": "pip",
        "cuda": "12.5.1",
        "cudnn": "9",
        "archs": ["sm_60", "sm_70", "sm_80", "sm_89"],
        "ptx": ["compute_90"],
    }
    assert parse_dictionary("{'is_cuda_build': False}") == {"is_cuda_build": "False"}


def test_tensorflow_tells_its_build_in_pairs_as_pythons_before_3_12_print_them():
    """As the wheels of tensorflow 2.21 for CPython 3.11 have it."""
    text = (
        "build_info = collections.OrderedDict([('cpu_compiler', 'clang'), ('cuda_compute_capabilities', ['sm_60',"
        " 'compute_90']), ('cuda_version', '12.5.1'), ('cudnn_version', '9'), ('is_cuda_build', True)])"
    )
    assert parse_dictionary(text) == {
        "cpu_compiler": "clang",
        "cuda_compute_capabilities": "['sm_60', 'compute_90']",
        "cuda_version": "12.5.1",
        "cudnn_version": "9",
        "is_cuda_build": "True",
    }


def test_jax_takes_its_cuda_from_the_plugin(site):
    for name in ("jax", "jaxlib"):
        (site / name).mkdir()
        make_dist(site, name, "0.4.35")
    make_dist(
        site,
        "jax-cuda12-plugin",
        "0.4.35",
        metadata="Requires-Dist: nvidia-cudnn-cu12<10.0,>=9.1; extra == 'with-cuda'\n",
    )
    found = frameworks(site).facts["framework"]
    assert found["jax"] == {"version": "0.4.35", "source": "pip", "cuda": "12", "cudnn": "9.1"}
    assert found["jaxlib"] == {"version": "0.4.35", "source": "pip"}


PLUGIN = """
def _load_nvidia_libraries():
  _load("cuda_runtime", ["libcudart.so.12"])
  _load("cu13", ["libcudart.so.13"])
  _load("cudnn", ["libcudnn.so.9"])
"""


@needs_gcc
@pytest.mark.parametrize("preloads", [True, False])
def test_jax_loads_the_wheels_by_path_where_its_plugin_says_so(site, tmp_path, preloads):
    """A plugin with a RUNPATH loses to LD_LIBRARY_PATH, unless it opened the wheel's library before."""
    made = make_nvidia_wheels(site)
    decoy = make_library(tmp_path / "cuda/libcudnn.so.9", soname="libcudnn.so.9")
    plugin = site / "jax_plugins/xla_cuda12/xla_cuda_plugin.so"
    make_library(plugin, runpath="$ORIGIN/../../nvidia/cudnn/lib")
    (plugin.parent / "__init__.py").write_text(PLUGIN if preloads else "")
    (site / "jax").mkdir()
    make_dist(site, "jax", "0.7.1")
    make_dist(site, "jax-cuda12-plugin", "0.7.1")
    target = SimpleNamespace(prefix=str(site.parents[2]), site_packages=[str(site)], base_executable="")
    environment = scan_environment(LiveRoot({"LD_LIBRARY_PATH": str(decoy.parent)}), target)
    (jax,) = find_frameworks(environment)
    process, missing = simulate(environment, jax)
    loaded = process.find("libcudnn.so.9")
    assert loaded is not None
    assert loaded.path == str(made["cudnn"] if preloads else decoy)
    assert "libcublas.so.12" in missing


PRELOADS = """
def _preload_cuda_deps(err: OSError | None = None, required: bool = True) -> None:
    cuda_libs: list[tuple[str, str]] = [
        # NOTE: Order matters!
        ("cublas", "libcublasLt.so.*[0-9]"),
        ("cudnn", "libcudnn.so.*[0-9]"),
        ("cuda_runtime", "libcudart.so.*[0-9]"),
    ]


def _load_global_deps() -> None:
    _preload_cuda_deps(%s)
"""


@needs_gcc
@pytest.mark.parametrize(("call", "preloaded"), [("required=False", True), ("err", False)])
def test_torch_opens_all_wheels_by_path_where_its_init_says_so(site, tmp_path, call, preloaded):
    """As torch 2.14 does (torch/__init__.py): LD_LIBRARY_PATH loses although its libraries have a RUNPATH."""
    made = {"libcudnn.so.9": "cudnn", "libcudart.so.12": "cuda_runtime"}
    wheels = {name: str(site / f"nvidia/{folder}/lib/{name}") for name, folder in made.items()}
    make_torch(site)
    (site / "torch/__init__.py").write_text(PRELOADS % call)
    decoys = {name: str(make_library(tmp_path / "cuda" / name, soname=name)) for name in made}
    target = SimpleNamespace(prefix=str(site.parents[2]), site_packages=[str(site)], base_executable="")
    environment = scan_environment(LiveRoot({"LD_LIBRARY_PATH": str(tmp_path / "cuda")}), target)
    (torch,) = find_frameworks(environment)
    process, _ = simulate(environment, torch)
    loaded = {name: process.find(name).path for name in made}
    # What libtorch_global_deps needs is searched for before anything is preloaded.
    assert loaded["libcudart.so.12"] == decoys["libcudart.so.12"]
    assert loaded["libcudnn.so.9"] == (wheels if preloaded else decoys)["libcudnn.so.9"]


@pytest.mark.parametrize(
    ("cuda", "cudnn", "nccl", "facts"),
    [
        ("False", "False", "0", {"cuda": ""}),
        ("12.6", "9.5.1", "22602", {"cuda": "12.6", "cudnn": "9.5.1", "nccl": "2.26.2"}),
        ("10.2", "7.6.5", "2804", {"cuda": "10.2", "cudnn": "7.6.5", "nccl": "2.8.4"}),
    ],
)
def test_paddle_says_what_it_was_built_with(site, cuda, cudnn, nccl, facts):
    """As setup.py writes paddle/version/__init__.py: False and 0 for what a build goes without."""
    (site / "paddle/version").mkdir(parents=True)
    (site / "paddle/version/__init__.py").write_text(
        f"full_version     = '3.3.1'\nnccl_version     = '{nccl}'\ncuda_version     = '{cuda}'\n"
        f"cudnn_version    = '{cudnn}'\nhip_version      = None\n"
    )
    make_dist(site, "paddlepaddle", "3.3.1")
    found = frameworks(site).facts["framework"]["paddle"]
    assert found == {"version": "3.3.1", "source": "pip", **facts}


@needs_gcc
@pytest.mark.parametrize("requires", ["Requires-Dist: cuda-pathfinder==1.*,>=1.3.4\n", ""])
def test_cupy_finds_the_wheels_where_it_has_pathfinder_look(site, tmp_path, requires):
    """CuPy 14 opens them by path; before, only LD_LIBRARY_PATH and ld.so.cache led to them. NCCL is optional."""
    nccl = make_library(site / "gone/libnccl.so.2", soname="libnccl.so.2")
    wheel = make_library(site / "nvidia/cublas/lib/libcublas.so.12", soname="libcublas.so.12")
    make_library(site / "cupy_backends/cuda/libs/cublas.so", [wheel, nccl])
    nccl.unlink()
    (site / "cupy").mkdir()
    make_dist(site, "cupy-cuda12x", "14.2.0", metadata=requires)
    target = SimpleNamespace(prefix=str(site.parents[2]), site_packages=[str(site)], base_executable="")
    environment = scan_environment(LiveRoot({}), target)
    (cupy,) = find_frameworks(environment)
    process, missing = simulate(environment, cupy)
    found = process.find("libcublas.so.12")
    if requires:
        assert found is not None
        assert (found.path, missing) == (str(wheel), [])
    else:
        assert missing == ["libcublas.so.12"]


@pytest.mark.parametrize(
    ("version", "facts"),
    [
        ("0.4.25+cuda12.cudnn89", {"cuda": "12", "cudnn": "8.9"}),
        ("0.4.7+cuda11.cudnn86", {"cuda": "11", "cudnn": "8.6"}),
        ("0.4.25", {"cuda": ""}),
    ],
)
def test_older_jaxlib_names_its_cuda_in_the_local_version(site, version, facts):
    (site / "jaxlib").mkdir()
    make_dist(site, "jaxlib", version)
    found = frameworks(site).facts["framework"]["jaxlib"]
    assert {key: found[key] for key in facts} == facts


@pytest.mark.parametrize(
    ("name", "version", "facts"),
    [
        (
            "flash-attn",
            "2.7.4.post1+cu12torch2.6cxx11abiFALSE",
            {"cuda": "12", "built_for": {"torch": "2.6"}, "cxx11_abi": False},
        ),
        ("torch-scatter", "2.1.2+pt24cu121", {"cuda": "12.1", "built_for": {"torch": "2.4"}}),
        ("torch-scatter", "2.1.2+pt113cpu", {"cuda": "", "built_for": {"torch": "1.13"}}),
        ("torchvision", "0.19.0+cu124", {"cuda": "12.4"}),
        ("mamba-ssm", "2.2.4", {}),
    ],
)
def test_extensions_tell_what_they_were_built_for_in_their_version(site, name, version, facts):
    make_dist(site, name, version)
    assert frameworks(site).facts["framework"][name] == {"version": version, "source": "pip", **facts}


def test_an_exact_requirement_of_torch_is_what_an_extension_was_built_for(site):
    make_dist(site, "vllm", "0.6.3", metadata="Requires-Dist: numpy<2.0.0\nRequires-Dist: torch==2.4.0\n")
    assert frameworks(site).facts["framework"]["vllm"]["built_for"] == {"torch": "2.4.0"}
    make_dist(site, "torchaudio", "2.4.0", metadata="Requires-Dist: torch>=2.0\n")
    assert "built_for" not in frameworks(site).facts["framework"]["torchaudio"]


def test_xformers_tells_its_build_in_json(site):
    (site / "xformers").mkdir()
    (site / "xformers/cpp_lib.json").write_text(
        '{"version": {"cuda": 1208, "hip": null, "torch": "2.7.0+cu128", "python": "3.9.21"}}'
    )
    make_dist(site, "xformers", "0.0.30", metadata="Requires-Dist: torch==2.7.0\n")
    xformers = frameworks(site).facts["framework"]["xformers"]
    assert (xformers["cuda"], xformers["built_for"]) == ("12.8", {"torch": "2.7.0+cu128"})


@needs_gcc
@pytest.mark.parametrize(
    ("symbol", "abi"),
    [
        (
            "_ZN3c106detail14torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE",
            True,
        ),
        ("_ZN3c106detail14torchCheckFailEPKcS2_jRKSs", False),
        ("_ZN3c104cuda29c10_cuda_check_implementationEiPKcS2_ib", None),
    ],
)
def test_the_abi_of_an_extension_is_that_of_the_symbols_it_asks_for(site, symbol, abi):
    source = f'int ask(void) __asm__("{symbol}"); int use(void) {{ return ask(); }}'
    make_library(site / "flash_attn_2_cuda.cpython-311-x86_64-linux-gnu.so", source=source)
    make_dist(site, "flash-attn", "2.7.4")
    assert frameworks(site).facts["framework"]["flash-attn"].get("cxx11_abi") is abi


@needs_gcc
def test_needed_symbol_versions_are_the_newest_of_all_binaries(site):
    make_torch(site)
    source = "#include <pthread.h>\nint use(pthread_t t) { return pthread_join(t, 0); }"
    make_library(site / "torch/lib/libtorch_cpu.so", source=source)
    assert frameworks(site).facts["framework"]["torch"]["needs"]["libc"].startswith("glibc 2.")


@needs_gcc
def test_opencv_is_told_only_when_a_system_library_is_missing(site):
    library = make_library(site / "libGL.so.1", soname="libGL.so.1")
    make_library(site / "cv2/cv2.abi3.so", [library], rpath="$ORIGIN/..")
    make_dist(site, "opencv-python", "4.10.0.84")
    assert "framework" not in frameworks(site).facts
    library.unlink()
    make_library(site / "cv2/cv2.abi3.so", [make_library(site / "x/libGLnone.so.1", soname="libGLnone.so.1")])
    assert frameworks(site).facts["framework"]["opencv-python"]["needs"]["library"] == "libGLnone.so.1"


@needs_gcc
def test_a_needed_name_that_is_no_name_is_passed_over(site):
    make_torch(site)
    gone = make_library(site / "libgone.so", soname="libgone.so\udcff\n[driver]")
    make_library(site / "torch/lib/libcaffe2_nvrtc.so", [gone])
    gone.unlink()
    assert "library" not in frameworks(site).facts["framework"]["torch"]["needs"]


@needs_gcc
def test_a_damaged_binary_costs_its_own_facts(site):
    make_torch(site)
    (site / "torch/lib/libtorch_cuda.so").write_bytes(b"\x7fELF" + b"\xff" * 200)
    seen = frameworks(site)
    assert seen.facts["framework"]["torch"]["cudnn"] == "9.1.0"
    assert "libtorch_cuda.so" in seen.unobserved["framework.torch.archs"]


@needs_gcc
def test_a_folder_reads_like_the_machine_itself(site, tmp_path):
    make_torch(site)
    target = SimpleNamespace(prefix="/", site_packages=["/lib/python3.11/site-packages"], base_executable="")
    seen = read_frameworks(FolderRoot(str(tmp_path)), target)
    torch = seen.facts["framework"]["torch"]
    assert (torch["version"], torch["cxx11_abi"]) == ("2.4.0+cu124", False)


def test_without_a_python_there_is_a_reason():
    assert "framework" in read_frameworks(LiveRoot({}), None).unobserved


@given(
    st.lists(st.text("ab1.*?", max_size=5)),
    st.lists(st.sampled_from(["a", "b", "1", ".", "*", "?", "[0-9]", "[!a]"]), max_size=5).map("".join),
)
def test_a_pattern_fits_the_names_that_fnmatch_lets_it_fit(names, pattern):
    assert fitting(names, pattern) == [name for name in names if fnmatch.fnmatchcase(name, pattern)]
