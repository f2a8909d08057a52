"""Every fact of a capture beside independent sources, on an environment with the CPU wheel of torch."""

from tests.truth_support import agreement


def test_the_cpu_wheel_of_torch_is_described_as_it_describes_itself(cpu_torch, tmp_path):
    agreed, differing = agreement(cpu_torch, tmp_path)
    assert differing == []
    assert {f"framework.torch.{fact}" for fact in ("version", "cuda", "hip", "cxx11_abi")} <= agreed
    assert any(fact.startswith("library.openmp ") and fact.endswith(" used_by") for fact in agreed)
