"""Every fact of a capture beside independent sources, on an environment with a CUDA build of torch.

Such a wheel has gigabytes and is not installed here: ENVLOCK_HEAVY_PREFIX names a prefix that has it (torch,
torchvision, the nvidia wheels and what else is wanted).
"""

import os

import pytest

from tests.truth_support import agreement

PREFIX = os.environ.get("ENVLOCK_HEAVY_PREFIX", "")


@pytest.mark.heavy
@pytest.mark.skipif(not PREFIX, reason="ENVLOCK_HEAVY_PREFIX names no prefix with a CUDA build of torch")
def test_a_cuda_environment_is_described_as_its_sources_describe_it(tmp_path):
    agreed, differing = agreement(PREFIX, tmp_path)
    assert differing == []
    wanted = ("version", "cuda", "cudnn", "nccl", "archs", "ptx", "cxx11_abi")
    assert {f"framework.torch.{fact}" for fact in wanted} <= agreed
    for name in ("cudart", "cudnn", "nccl", "cublas", "cusparse", "nvjitlink"):
        assert any(fact.startswith(f"library.{name} ") and fact.endswith(" version") for fact in agreed), name
        assert any(fact.startswith(f"library.{name} ") and fact.endswith(" used_by") for fact in agreed), name
