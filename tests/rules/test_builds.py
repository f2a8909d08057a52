"""Builds as rows of a matrix make them: whole, in order, and with the command that installs exactly one."""

from __future__ import annotations

import pytest

from envlock.errors import EnvlockError
from envlock.matrix.loader import load
from envlock.rules.builds import Build, UnknownProjectError, builds, newest_known, parsed, tag

TORCH = "https://download.pytorch.org/whl"
JAX = "https://storage.googleapis.com/jax-releases/jax_cuda_releases.html"
ONNX = "https://aiinfra.pkgs.visualstudio.com/PublicPackages/_packaging/onnxruntime-cuda-12/pypi/simple/"


class Rows:
    """A matrix of these rows alone."""

    def __init__(self, **kinds: list[dict[str, object]]) -> None:
        self._kinds = kinds

    def rows(self, subject: str, kind: str) -> list[dict[str, object]]:
        return self._kinds.get(f"{subject}_{kind}", [])


def test_torch_has_a_build_for_each_cuda_and_one_for_the_cpu() -> None:
    release = {
        "version": "2.7.0", "cuda": "12.6", "cuda_builds": ["11.8", "12.6"], "python": ">=3.9", "glibc": "2.28",
        "torchvision": "0.22.0", "torchaudio": "2.7.0", "triton": "~=3.3.0", "source": "release",
    }  # fmt: skip
    build = {"version": "2.7", "cuda": "12.6", "glibc": "2.17", "archs": ("8.0", "9.0"), "ptx": ("9.0",), "cudnn": "9.5.1.17",
             "source": "build"}  # fmt: skip
    pins = "torch==2.7.0 torchvision==0.22.0 torchaudio==2.7.0"
    both = {"torchvision": "0.22.0", "torchaudio": "2.7.0"}
    assert builds(Rows(torch_release=[release], torch_build=[build]), "pytorch") == [
        Build("torch", "2.7.0", "12.6", f"pip install {pins} --index-url {TORCH}/cu126", {**both, "triton": "3.3.0"},
              python=">=3.9", glibc="2.17", archs=("8.0", "9.0"), ptx=("9.0",), compiler_cuda="12.6", cudnn="9.5.1.17",
              default=True, source="build"),
        Build("torch", "2.7.0", "11.8", f"pip install {pins} --index-url {TORCH}/cu118", {**both, "triton": "3.3.0"},
              python=">=3.9", glibc="2.28", compiler_cuda="11.8", source="release"),
        Build("torch", "2.7.0", "", f"pip install {pins} --index-url {TORCH}/cpu", both,
              python=">=3.9", glibc="2.28", source="release"),
    ]  # fmt: skip


def test_before_2_0_torch_is_pinned_with_its_label() -> None:
    rows = [
        {"version": version, "cuda": "11.7", "python": ">=3.7", "source": "release", "torchvision": "0.14", "torchaudio": "0.13"}
        for version in ("1.13.1", "2.0.0")
    ]  # fmt: skip
    assert [build.install for build in builds(Rows(torch_release=rows), "torch") if build.cuda] == [
        f"pip install torch==2.0.0 torchvision==0.14 torchaudio==0.13 --index-url {TORCH}/cu117",
        f"pip install torch==1.13.1+cu117 torchvision==0.14+cu117 torchaudio==0.13 --extra-index-url {TORCH}/cu117",
    ]


def test_the_torchvision_of_a_release_without_one_is_the_newest_that_asks_for_its_minor() -> None:
    companions = [
        {"package": "torchaudio", "version": "9.0", "torch": "==2.4.*"},
        {"package": "torchvision", "version": "0.19.0", "torch": "==2.4.0"},
        {"package": "torchvision", "version": "0.19.1", "torch": "==2.4.1"},
        {"package": "torchvision", "version": "0.19.10", "torch": "~=2.4.0"},
        {"package": "torchvision", "version": "0.19.9", "torch": ">=2.4"},
        {"package": "torchvision", "version": "0.30.0", "torch": ">=1.0"},
        {"package": "torchvision", "version": "0.40.0", "torch": "<2.5"},
    ]
    release = {"version": "2.4.0", "cuda": "12.1", "python": "", "source": "", "torchaudio": "2.4.0"}
    (cuda, _) = builds(Rows(torch_release=[release], torch_companion=companions), "torch")
    assert list(cuda.companions.items()) == [("torchvision", "0.19.10"), ("torchaudio", "2.4.0")]
    (alone, _) = builds(
        Rows(torch_release=[{**release, "version": "2.6.0"}], torch_companion=companions[:4]), "torch"
    )
    assert alone.companions == {"torchaudio": "2.4.0"}


def test_jax_has_a_build_for_each_major_of_cuda() -> None:
    release = {
        "version": "0.4.29", "cuda": ["11", "12"], "python": ">=3.9", "cuda11_built": "11.8", "cuda12_runtime": ">=12.1.105",
        "cuda12_cudnn": ">=9.0,<10.0", "source": "jax",
    }  # fmt: skip
    floors = [{"cuda": "12", "capability": "5.2"}, {"cuda": "11"}]
    found = builds(
        Rows(jax_release=[release, {**release, "version": "0.4.30", "cuda": ["12"]}], jax_cuda=floors), "jax"
    )
    assert found == [
        Build("jax", "0.4.30", "12", 'pip install "jax[cuda12]==0.4.30"', python=">=3.9", compiler_cuda="12.1.105",
              capability="5.2", cudnn=">=9.0,<10.0", default=True, source="jax"),
        Build("jax", "0.4.29", "12", f'pip install "jax[cuda12]==0.4.29" -f {JAX}', python=">=3.9", compiler_cuda="12.1.105",
              capability="5.2", cudnn=">=9.0,<10.0", default=True, source="jax"),
        Build("jax", "0.4.29", "11", f'pip install "jax[cuda11_pip]==0.4.29" -f {JAX}', python=">=3.9", compiler_cuda="11.8",
              source="jax"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "name", "brings_cuda"),
    [
        ("2.0", "tensorflow-gpu", False),
        ("2.1", "tensorflow", False),
        ("2.13", "tensorflow", False),
        ("2.14", "tensorflow[and-cuda]", True),
    ],
)
def test_tensorflow_has_one_build(version: str, name: str, brings_cuda: bool) -> None:
    row = {"version": version, "cuda": "11.8", "python": ">=3.9", "cudnn": "8.7", "source": "tensorflow"}
    assert builds(Rows(tensorflow_release=[row]), "tensorflow-gpu") == [
        Build("tensorflow", version, "11.8", f'pip install "{name}=={version}.*"', python=">=3.9", compiler_cuda="11.8",
              brings_cuda=brings_cuda, cudnn="8.7", default=True, source="tensorflow")
    ]  # fmt: skip


def test_onnxruntime_has_one_on_pypi_and_others_on_an_index_of_their_own() -> None:
    row = {"version": "1.18", "cuda": "11.8", "python": ">=3.8", "cudnn": "8", "pypi": True, "source": "onnx"}
    other = {"version": "1.18.1", "cuda": "12.2", "cudnn": "9", "pypi": False, "source": "onnx"}
    assert builds(Rows(onnxruntime_release=[row, other]), "onnxruntime") == [
        Build("onnxruntime-gpu", "1.18.1", "12.2", f'pip install "onnxruntime-gpu==1.18.1" --extra-index-url {ONNX}',
              compiler_cuda="12.2", brings_cuda=False, cudnn="9", source="onnx"),
        Build("onnxruntime-gpu", "1.18", "11.8", 'pip install "onnxruntime-gpu==1.18.*"', python=">=3.8",
              compiler_cuda="11.8", brings_cuda=False, cudnn="8", default=True, source="onnx"),
    ]  # fmt: skip


def test_a_label_is_what_people_write_behind_the_version() -> None:
    assert (tag("12.6"), tag("11"), tag("")) == ("cu126", "cu11", "cpu")
    assert Build("torch", "2.7.0", "", "").label == "2.7.0+cpu"


def test_what_is_asked_for_may_name_the_label() -> None:
    matrix = load()
    assert [build.label for build in builds(matrix, "torch", "==2.7.0+cpu")] == ["2.7.0+cpu"]
    assert {build.version for build in builds(matrix, "torch", "==2.7.0")} == {"2.7.0"}
    # 2.7.0+cu126 is newer than 2.7.0 where labels are compared; a specifier without one asks for none.
    assert builds(matrix, "torch", ">2.7.0,<2.7.1") == []
    assert newest_known(matrix, "jax") == builds(matrix, "jax")[0].version


def test_what_cannot_be_answered_is_said_with_what_can() -> None:
    with pytest.raises(UnknownProjectError) as unknown:
        builds(load(), "numpy")
    assert (
        str(unknown.value)
        == "the matrix has no builds of 'numpy'; it has torch, jax, tensorflow, onnxruntime-gpu"
    )
    with pytest.raises(EnvlockError) as wrong:
        builds(load(), "torch", "newest")
    assert str(wrong.value) == "'newest' is not a version specifier such as ==2.9.* or >=2.6,<2.8"


@pytest.mark.parametrize("text", ["", "==2.9", "torch~2"])
def test_what_is_no_requirement_is_said(text: str) -> None:
    with pytest.raises(EnvlockError) as wrong:
        parsed(text)
    assert str(wrong.value) == f"{text!r} is not a requirement such as torch, torch==2.9.* or torch>=2.6"


def test_a_requirement_names_a_project_by_any_of_its_names() -> None:
    assert parsed("pytorch") == ("torch", "")
    assert parsed("tensorflow-gpu == 2.0.*") == ("tensorflow", "==2.0.*")
    assert parsed("jax>=0.4,<0.5") == ("jax", ">=0.4,<0.5")
