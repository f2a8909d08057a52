"""Every fact of a capture beside independent sources, on an environment with the CPU wheel of torch."""

import subprocess

import pytest

from tests.packages_support import pip, virtualenv
from tests.truth_support import agreement


@pytest.fixture(scope="module")
def cpu_venv(tmp_path_factory):
    prefix = virtualenv(tmp_path_factory.mktemp("truth") / "venv")
    try:
        pip(prefix, "install", "-q", "torch==2.13.0", "numpy")
    except subprocess.CalledProcessError:
        pytest.skip("torch 2.13.0 cannot be installed here")
    return prefix


def test_the_cpu_wheel_of_torch_is_described_as_it_describes_itself(cpu_venv, tmp_path):
    agreed, differing = agreement(cpu_venv, tmp_path)
    assert differing == []
    assert {f"framework.torch.{fact}" for fact in ("version", "cuda", "hip", "cxx11_abi")} <= agreed
    assert any(fact.startswith("library.openmp ") and fact.endswith(" used_by") for fact in agreed)
