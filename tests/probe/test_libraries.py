"""Copies of native libraries: found once each, with version, owner, and the frameworks that end at them."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from envlock.probe.frameworks import find_frameworks, read_frameworks, scan_environment, simulate
from envlock.probe.libraries import decode_cuda, decode_cudnn, decode_nccl, read_libraries, which
from envlock.probe.root import UnobservableError
from envlock.probe.target import find_target
from envlock.roots.folder import FolderRoot
from envlock.roots.live import LiveRoot
from tests.elf_support import (
    NCCL_TEXT,
    make_dist,
    make_library,
    make_nvidia_wheels,
    make_program,
    make_torch,
    needs_gcc,
    really_loaded,
)
from tests.heavy_support import TORCH, heavy_prefix
from tests.packages_support import below, dist_info, write


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "venv/lib/python3.11/site-packages"
    folder.mkdir(parents=True)
    return folder


def target_of(site: Path, program: str = ""):
    return SimpleNamespace(prefix=str(site.parents[2]), site_packages=[str(site)], base_executable=program)


def libraries(site: Path, environ=None, name: str = "", program: str = ""):
    """The rows below the test's own folder; what the machine itself has is left out."""
    rows = read_libraries(LiveRoot(environ or {}), target_of(site, program)).facts.get("library", [])
    here = str(site.parents[3])
    return [row for row in rows if row["path"].startswith(here) and name in ("", row["name"])]


@needs_gcc
def test_a_wheel_of_another_name_than_its_module_is_told_by_its_record(site):
    """paddlepaddle brings paddle, and so does paddlepaddle-gpu; paddle-bfloat has a name that starts like it too."""
    make_library(site / "paddle/libs/libiomp5.so")
    make_dist(site, "paddle-bfloat", "0.1.7", ["paddle_bfloat.so"])
    make_dist(site, "paddlepaddle-gpu", "3.3.1", ["paddle/libs/libiomp5.so"])
    assert [row["provider"] for row in libraries(site)] == ["pip:paddlepaddle-gpu"]


@needs_gcc
def test_wheels_are_told_by_their_records(site):
    made = make_nvidia_wheels(site)
    rows = {row["name"]: row for row in libraries(site)}
    assert rows["cudnn"] == {
        "name": "cudnn",
        "version": "9.1.0.70",
        "soname": "libcudnn.so.9",
        "path": str(made["cudnn"]),
        "provider": "pip:nvidia-cudnn-cu12",
        "cuda": "12",
    }
    assert (rows["nccl"]["version"], rows["nccl"]["cuda"]) == ("2.20.5", "12.4")
    assert rows["cudart"]["provider"] == "pip:nvidia-cuda-runtime-cu12"
    assert len(rows) == 4


@needs_gcc
@pytest.mark.parametrize("kind", ["rpath", "runpath"])
def test_used_by_follows_the_real_search_order(site, tmp_path, kind):
    """LD_LIBRARY_PATH beats a RUNPATH and not an RPATH; the real loader is asked as well."""
    module = make_torch(site, kind)
    decoy = make_library(tmp_path / "cuda/lib64/libcudnn.so.9.8.0", soname="libcudnn.so.9")
    (decoy.parent / "libcudnn.so.9").symlink_to(decoy.name)
    program = make_program(tmp_path / "bin/python3.11")
    environ = {"LD_LIBRARY_PATH": str(decoy.parent)}
    rows = libraries(site, environ, "cudnn", str(program))
    assert [row["version"] for row in rows] == ["9.8.0", "9.1.0.70"]
    users = {os.path.realpath(row["path"]) for row in rows if row.get("used_by") == ["torch"]}
    deps = site / "torch/lib/libtorch_global_deps.so"
    assert users & really_loaded(program, [deps, module], environ) == users
    assert users == {str(decoy if kind == "runpath" else site / "nvidia/cudnn/lib/libcudnn.so.9")}


@needs_gcc
def test_which_tells_the_winner_and_why(site, tmp_path):
    make_torch(site)
    decoy = make_library(tmp_path / "cuda/lib64/libcudnn.so.9", soname="libcudnn.so.9")
    answer = which(LiveRoot({"LD_LIBRARY_PATH": f"/none:{decoy.parent}"}), target_of(site), "cudnn")
    assert {copy.path for copy in answer.copies} >= {str(decoy), str(site / "nvidia/cudnn/lib/libcudnn.so.9")}
    assert (answer.searches[0].framework, answer.searches[0].winner) == ("torch", str(decoy))
    assert answer.searches[0].how == f"LD_LIBRARY_PATH entry 2 ({decoy.parent})"
    (site / "nvidia/nccl/lib/libnccl.so.2").unlink()
    (search,) = which(LiveRoot({}), target_of(site), "nccl").searches
    assert (search.framework, search.winner) == ("torch", None)
    assert "libnccl.so.2 is needed" in search.how
    by_soname = which(LiveRoot({}), target_of(site), "libcudnn.so.9", "torch")
    assert by_soname.searches[0].how == "RUNPATH $ORIGIN/../../nvidia/cudnn/lib of libtorch_cuda.so"


@needs_gcc
def test_torch_preloads_the_wheels_when_its_search_fails(site, tmp_path):
    """Installed apart (torch in one folder, nvidia wheels in another), only the preload finds them."""
    other = tmp_path / "venv/lib/python3.11/other"
    make_torch(site)
    (site / "nvidia").rename(tmp_path / "nvidia")
    other.mkdir()
    (tmp_path / "nvidia").rename(other / "nvidia")
    target = SimpleNamespace(
        prefix=str(tmp_path / "venv"), site_packages=[str(site), str(other)], base_executable=""
    )
    rows = read_libraries(LiveRoot({}), target).facts["library"]
    used = {row["name"]: row["path"] for row in rows if row.get("used_by")}
    assert used["cudart"] == str(other / "nvidia/cuda_runtime/lib/libcudart.so.12")
    assert used["cudnn"] == str(other / "nvidia/cudnn/lib/libcudnn.so.9")


@needs_gcc
def test_sublibraries_from_elsewhere_are_reported(site, tmp_path):
    """A complete cuDNN beside a main library without parts of its own: the parts of the other are taken."""
    make_torch(site, kind="rpath")
    for path in (site / "nvidia/cudnn/lib").glob("libcudnn_*"):
        path.unlink()
    folder = tmp_path / "cuda/lib64"
    for part in ("graph", "ops"):
        make_library(folder / f"libcudnn_{part}.so.9.8.0", soname=f"libcudnn_{part}.so.9")
        (folder / f"libcudnn_{part}.so.9").symlink_to(f"libcudnn_{part}.so.9.8.0")
    rows = libraries(site, {"LD_LIBRARY_PATH": str(folder)}, "cudnn")
    assert [(row["soname"][:12], row["version"], row.get("used_by")) for row in rows] == [
        ("libcudnn_gra", "9.8.0", ["torch"]),
        ("libcudnn.so.", "9.1.0.70", ["torch"]),
    ]


@needs_gcc
def test_sublibraries_named_by_the_full_version_are_not_mixed(site, tmp_path):
    """A distribution's cuDNN asks for libcudnn_ops.so.9.1.0 first, which only its own folder has."""
    own, other = tmp_path / "own", tmp_path / "other"
    for folder, version in ((own, "9.1.0"), (other, "9.8.0")):
        for stem in ("libcudnn", "libcudnn_graph", "libcudnn_ops"):
            make_library(folder / f"{stem}.so.{version}", soname=f"{stem}.so.9")
            (folder / f"{stem}.so.9").symlink_to(f"{stem}.so.{version}")
    (other / "libcudnn.so.9").unlink()
    (other / "libcudnn.so.9.8.0").unlink()
    make_library(site / "ctranslate2/_ext.so", [own / "libcudnn.so.9"], rpath=str(own))
    make_dist(site, "ctranslate2", "4.5.0")
    environ = {"LD_LIBRARY_PATH": f"{other}:{own}"}
    rows = {row["version"]: row.get("used_by") for row in libraries(site, environ, "cudnn")}
    assert rows == {"9.1.0": ["ctranslate2"], "9.8.0": None}


@needs_gcc
def test_sublibraries_of_one_version_are_no_copies_of_their_own(site, tmp_path):
    folder = tmp_path / "cuda/lib64"
    for stem in ("libcudnn", "libcudnn_graph", "libcudnn_ops"):
        make_library(folder / f"{stem}.so.9.8.0", soname=f"{stem}.so.9")
    assert [row["soname"] for row in libraries(site, {"LD_LIBRARY_PATH": str(folder)})] == ["libcudnn.so.9"]
    (folder / "libcudnn_ops.so.9.8.0").rename(folder / "libcudnn_ops.so.9.1.0")
    rows = libraries(site, {"LD_LIBRARY_PATH": str(folder)})
    assert [row["version"] for row in rows] == ["9.8.0", "9.1.0"]


@needs_gcc
def test_bundled_libraries_belong_to_their_wheel(site):
    make_library(
        site / "numpy.libs/libscipy_openblas64_-99b71e71.so", soname="libscipy_openblas64_-99b71e71.so"
    )
    make_library(site / "scikit_learn.libs/libgomp-a34b3233.so.1.0.0", soname="libgomp-a34b3233.so.1.0.0")
    make_dist(site, "numpy", "2.0.0")
    make_dist(site, "scikit-learn", "1.5.0")
    rows = libraries(site)
    assert [(row["name"], row["provider"], row["used_by"]) for row in rows] == [
        ("openblas", "pip:numpy", ["numpy"]),
        ("openmp", "pip:scikit-learn", ["scikit-learn"]),
    ]


@needs_gcc
def test_a_conda_package_owns_what_its_record_lists(site):
    prefix = site.parents[2]
    make_library(prefix / "lib/libcudnn.so.9.1.1", soname="libcudnn.so.9")
    (prefix / "lib/libcudnn.so.9").symlink_to("libcudnn.so.9.1.1")
    (prefix / "conda-meta").mkdir()
    record = '{"name": "libcudnn", "files": [\n "lib/libcudnn.so.9",\n "lib/libcudnn.so.9.1.1"]}'
    (prefix / "conda-meta/libcudnn-9.1.1.17-hb9fcca7_0.json").write_text(record)
    (prefix / "conda-meta/cudnn-9.1.1.17-cuda12_0.json").write_text('{"name": "cudnn", "files": []}')
    (row,) = libraries(site)
    assert (row["provider"], row["version"]) == ("conda:libcudnn", "9.1.1.17")
    assert row["path"] == str(prefix / "lib/libcudnn.so.9")


class Asked(LiveRoot):
    """A live root whose libraries answer with fixed numbers."""

    def __init__(self, answer, environ) -> None:
        super().__init__(environ)
        self.answer = answer
        self.questions: list[list[str]] = []

    def ask(self, question, arguments=(), timeout=10.0):
        self.questions.append([question, *arguments])
        if self.answer is None:
            raise UnobservableError("the library child was ended by signal 11")
        return {"version": self.answer}


@needs_gcc
def test_headers_beside_a_library_tell_its_version_and_nobody_is_asked(site, tmp_path):
    make_library(tmp_path / "opt/lib/libcudnn.so.8", soname="libcudnn.so.8")
    (tmp_path / "opt/include").mkdir()
    (tmp_path / "opt/include/cudnn_version.h").write_text(
        "#define CUDNN_MAJOR 8\n#define CUDNN_MINOR 9\n#define CUDNN_PATCHLEVEL 7\n"
    )
    root = Asked(8907, {"LD_LIBRARY_PATH": str(tmp_path / "opt/lib")})
    rows = read_libraries(root, target_of(site)).facts["library"]
    assert [row["version"] for row in rows if row["path"].startswith(str(tmp_path))] == ["8.9.7"]
    assert not [question for question in root.questions if str(tmp_path) in question[1]]


@needs_gcc
def test_only_a_library_that_nothing_else_knows_is_asked(site, tmp_path):
    path = make_library(tmp_path / "opt/lib/libcudnn.so.8", soname="libcudnn.so.8")
    environ = {"LD_LIBRARY_PATH": str(tmp_path / "opt/lib")}
    root = Asked(8907, environ)
    rows = read_libraries(root, target_of(site)).facts["library"]
    assert [row["version"] for row in rows if row["path"] == str(path)] == ["8.9.7"]
    silent = read_libraries(Asked(None, environ), target_of(site))
    assert "signal 11" in silent.unobserved["library.cudnn.version"]


@needs_gcc
def test_a_real_child_answers(site, tmp_path):
    """A library with NCCL's function and no version text; a crash in it is survived."""
    source = "int ncclGetVersion(int *number) { *number = 22005; return 0; }"
    make_library(tmp_path / "opt/lib/libnccl.so.2", soname="libnccl.so.2", source=source)
    environ = {"LD_LIBRARY_PATH": str(tmp_path / "opt/lib")}
    assert [row["version"] for row in libraries(site, environ, "nccl")] == ["2.20.5"]
    make_library(
        tmp_path / "bad/lib/libnccl.so.2",
        soname="libnccl.so.2",
        source="int ncclGetVersion(int *n) { *(int *)0 = 1; return 0; }",
    )
    seen = read_libraries(LiveRoot({"LD_LIBRARY_PATH": str(tmp_path / "bad/lib")}), target_of(site))
    assert "signal" in seen.unobserved["library.nccl.version"]


@needs_gcc
def test_an_image_holds_its_copies_too(tmp_path):
    """A folder root: toolkit and compat libraries, ld.so.conf instead of a cache, the system's libstdc++."""
    cuda = tmp_path / "usr/local/cuda-12.4"
    make_library(cuda / "lib64/libcudart.so.12.4.127", soname="libcudart.so.12")
    (cuda / "lib64/libcudart.so.12").symlink_to("libcudart.so.12.4.127")
    (tmp_path / "usr/local/cuda").symlink_to("cuda-12.4")
    make_library(cuda / "compat/libcuda.so.550.54.15", soname="libcuda.so.1")
    (cuda / "compat/libcuda.so.1").symlink_to("libcuda.so.550.54.15")
    make_library(tmp_path / "usr/lib/x86_64-linux-gnu/libcuda.so.535.54", soname="libcuda.so.1")
    source = NCCL_TEXT % "2.21.5+cuda12.4"
    make_library(
        tmp_path / "usr/lib/x86_64-linux-gnu/libnccl.so.2.21.5", soname="libnccl.so.2", source=source
    )
    rows = read_libraries(FolderRoot(str(tmp_path)), None).facts["library"]
    assert [(row["name"], row["version"], row.get("cuda"), row["path"]) for row in rows] == [
        ("cuda-compat", "550.54.15", "12.4", "/usr/local/cuda-12.4/compat/libcuda.so.1"),
        ("cudart", "12.4.127", None, "/usr/local/cuda-12.4/lib64/libcudart.so.12"),
        ("nccl", "2.21.5", "12.4", "/usr/lib/x86_64-linux-gnu/libnccl.so.2.21.5"),
    ]


def test_the_systems_libstdcxx_is_told_by_its_symbols(site):
    found = subprocess.run(
        ["sh", "-c", "ldconfig -p 2>/dev/null"], text=True, capture_output=True, check=False
    ).stdout
    if "libstdc++.so.6 " not in found:
        pytest.skip("no libstdc++ in ld.so.cache")
    rows = read_libraries(LiveRoot({}), target_of(site)).facts["library"]
    versions = [row["version"] for row in rows if row["name"] == "libstdcxx"]
    assert versions
    assert all(version.startswith("GLIBCXX_3.4.") for version in versions)


@pytest.mark.parametrize(
    ("decode", "number", "version"),
    [
        (decode_cudnn, 90100, "9.1.0"),
        (decode_cudnn, 92801, "9.28.1"),
        (decode_cudnn, 8907, "8.9.7"),
        (decode_cudnn, 7605, "7.6.5"),
        (decode_cudnn, 3, ""),
        (decode_nccl, 22005, "2.20.5"),
        (decode_nccl, 21304, "2.13.4"),
        (decode_nccl, 2804, "2.8.4"),
        (decode_nccl, -1, ""),
        (decode_cuda, 12080, "12.8"),
        (decode_cuda, 11000, "11.0"),
        (decode_cuda, 0, ""),
    ],
)
def test_numbers_that_libraries_answer_with(decode, number, version):
    assert decode(number) == version


@needs_gcc
@pytest.mark.parametrize(("tag", "version"), [("v4.1.4", "4.1.4"), ("v4.1.4-12-gabc", None)])
def test_open_mpi_tells_its_release_by_its_tag(site, tmp_path, tag, version):
    source = f'const char *const texts[] = {{"Open MPI v%d.%d.%d", ", repo rev: %s", "{tag}"}};'
    make_library(tmp_path / "mpi/libmpi.so.40", soname="libmpi.so.40", source=source)
    (row,) = [row for row in libraries(site, {"LD_LIBRARY_PATH": str(tmp_path / "mpi")}, "mpi")
              if row["path"].startswith(str(tmp_path))]  # fmt: skip
    assert row.get("version") == version


@pytest.fixture(scope="module")
def torch_python(tmp_path_factory):
    return Path(
        heavy_prefix("ENVLOCK_HEAVY_PREFIX", tmp_path_factory.mktemp("torch") / "venv", TORCH), "bin/python"
    )


@pytest.mark.heavy
class TestRealTorch:
    """torch with its nvidia wheels, imported by a real Python beside the one on paper."""

    @staticmethod
    def import_torch(python: Path, environ):
        code = (
            "import json, sys, torch; maps = open('/proc/self/maps').read()\n"
            "print(json.dumps([maps, torch._C._cuda_getArchFlags(), torch.backends.cudnn.version(),"
            " list(torch.cuda.nccl.version()), torch._C._GLIBCXX_USE_CXX11_ABI]))"
        )
        done = subprocess.run(
            [str(python), "-c", code], env=environ, text=True, capture_output=True, check=True
        )
        maps, archs, cudnn, nccl, abi = json.loads(done.stdout)
        paths = {line.split(maxsplit=5)[5] for line in maps.splitlines() if "/" in line}
        return (
            {path for path in paths if re.search(r"/(torch|nvidia|shadow)/", path)},
            archs.split(),
            cudnn,
            nccl,
            abi,
        )

    @pytest.mark.parametrize("shadowed", [False, True])
    def test_what_is_loaded_and_told(self, torch_python, tmp_path, shadowed):
        python = torch_python
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        site = next(python.parents[1].glob("lib/python*/site-packages"))
        if shadowed:
            (tmp_path / "shadow").mkdir()
            for name in ("libcudnn", "libcudart", "libcurand"):
                (library,) = site.glob(f"nvidia/*/lib/{name}.so.*[0-9]")
                shutil.copy(library, tmp_path / "shadow")
            environ["LD_LIBRARY_PATH"] = str(tmp_path / "shadow")
        real, archs, cudnn, nccl, abi = self.import_torch(python, environ)
        root = LiveRoot(environ)
        target = find_target(root, python=str(python))
        environment = scan_environment(root, target)
        framework = next(one for one in find_frameworks(environment) if one.name == "torch")
        process, missing = simulate(environment, framework)
        paper = {os.path.realpath(one.path) for one in process.objects}
        assert missing == []
        assert {path for path in real if ".so" in path} <= paper
        later = r"libcudnn_|libcusolver|libcaffe2_nvrtc|libtorch_cuda_linalg"
        extra = {path for path in paper - real if re.search(r"/(torch|nvidia|shadow)/", path)}
        assert [path for path in extra if not re.search(later, path)] == []
        told = read_frameworks(root, target).facts["framework"]["torch"]
        assert told["archs"] == [arch for arch in archs if arch.startswith("sm_")]
        assert told["cudnn"] == decode_cudnn(cudnn)
        assert told["nccl"] == ".".join(map(str, nccl))
        assert told["cxx11_abi"] == abi


def test_a_library_in_a_wheel_that_conda_repacked_is_condas(tmp_path):
    site = "lib/python3.11/site-packages"
    blob = "numpy.libs/libscipy_openblas64_-0123abcd.so"
    files = below(site, dist_info("numpy", "2.2.6", {blob: "x"}, installer="conda"))
    record = {"name": "numpy", "version": "2.2.6", "build": "py311_0", "files": [f"{site}/{blob}"]}
    files["conda-meta/numpy-2.2.6-py311_0.json"] = json.dumps(record)
    prefix = write(tmp_path / "env", files)
    target = SimpleNamespace(prefix=prefix, site_packages=[f"{prefix}/{site}"], base_executable="")

    def providers():
        rows = read_libraries(LiveRoot({}), target).facts["library"]
        return [
            row["provider"] for row in rows if row["name"] == "openblas" and row["path"].startswith(prefix)
        ]

    assert providers() == ["conda:numpy"]
    # pip put the same version over it: both records list the file, and the last installer has signed.
    (tmp_path / "env" / site / "numpy-2.2.6.dist-info/INSTALLER").write_text("pip\n")
    assert providers() == ["pip:numpy"]
