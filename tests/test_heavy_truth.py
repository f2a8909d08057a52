"""Every fact of a capture beside independent sources, on an environment with a CUDA build of torch.

It is installed for the run (5.5 GB); ENVLOCK_HEAVY_PREFIX names a prefix that has one already.
"""

import pytest

from tests.heavy_support import TORCH, heavy_prefix
from tests.truth_support import agreement

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    return heavy_prefix("ENVLOCK_HEAVY_PREFIX", tmp_path_factory.mktemp("torch") / "venv", TORCH)


def test_a_cuda_environment_is_described_as_its_sources_describe_it(prefix, tmp_path):
    agreed, differing = agreement(prefix, tmp_path)
    assert differing == []
    wanted = ("version", "cuda", "cudnn", "nccl", "archs", "ptx", "cxx11_abi")
    assert {f"framework.torch.{fact}" for fact in wanted} <= agreed
    for name in ("cudart", "cudnn", "nccl", "cublas", "cusparse", "nvjitlink"):
        assert any(fact.startswith(f"library.{name} ") and fact.endswith(" version") for fact in agreed), name
        assert any(fact.startswith(f"library.{name} ") and fact.endswith(" used_by") for fact in agreed), name
