"""Rules about NCCL and peer-to-peer, each with a stack that breaks it and a near miss."""

from __future__ import annotations

import pytest

from tests.rules.support import found, only

SHADOW = """
[[library]]
name = "nccl"
version = "2.27.3"
soname = "libnccl.so.2"
provider = "pip:nvidia-nccl-cu12"
[[library]]
name = "nccl"
version = "{}"
soname = "libnccl.so.2"
path = "/usr/lib/x86_64-linux-gnu/libnccl.so.2"
provider = "deb:libnccl2"
used_by = ["torch"]
[framework.torch]
nccl = "2.27.3"
"""


def test_an_older_nccl_of_the_system_wins() -> None:
    finding = only("nccl-shadowed", SHADOW.format("2.18.5"))
    assert (finding.subject, finding.severity) == ("library.nccl", "error")
    assert "2.18.5" in finding.message and "2.27.3" in finding.message
    assert finding.fixes
    assert not found("nccl-mismatch", SHADOW.format("2.18.5"))
    assert only("nccl-shadowed", SHADOW.format("2.28.9")).severity == "note"


def test_an_older_wheel_than_the_framework_pins() -> None:
    stack = """
[framework.torch]
version = "2.7.0+cu126"
[package.pip]
torch = {{ version = "2.7.0+cu126" }}
nvidia-nccl-cu12 = {{ version = "{}" }}
[requires]
torch = ["nvidia-nccl-cu12==2.26.2"]
"""
    finding = only("nccl-mismatch", stack.format("2.21.5"))
    assert finding.subject == "package.pip.nvidia-nccl-cu12" and "2.26.2" in finding.message
    assert finding.fixes
    assert not found("nccl-mismatch", stack.format("2.26.2"))
    assert not found("nccl-mismatch", stack.format("2.27.7"))


def test_a_defect_needs_all_of_its_conditions() -> None:
    stack = '[[gpu]]\nname = "RTX 5090"\ncount = {}\n[[library]]\nname = "nccl"\nversion = "{}"\nused_by = ["torch"]\n'
    errors = [f for f in found("nccl-known-bad", stack.format(2, "2.25.1")) if f.severity == "error"]
    assert [finding.subject for finding in errors] == ["library.nccl"]
    assert "gpu" in {each.address for each in errors[0].evidence}
    assert errors[0].fixes
    assert not [f for f in found("nccl-known-bad", stack.format(1, "2.25.1")) if f.severity == "error"]
    assert not [f for f in found("nccl-known-bad", stack.format(2, "2.26.5")) if f.severity == "error"]


def test_broad_defects_are_not_told_of_one_gpu() -> None:
    stack = '[[gpu]]\nname = "NVIDIA A40"\ncount = {}\n[[library]]\nname = "nccl"\nversion = "2.10.3"\nused_by = ["torch"]\n'
    assert found("nccl-known-bad", stack.format(2))
    assert not found("nccl-known-bad", stack.format(1))


CARDS = """
[host]
{fact} = {value}
[[gpu]]
name = "{gpu}"
count = {count}
[environ]
{environ}
"""


def hazard(
    fact: str = "iommu", value: str = "true", gpu: str = "NVIDIA RTX A6000", count: int = 2, environ: str = ""
) -> list[str]:
    stack = CARDS.format(fact=fact, value=value, gpu=gpu, count=count, environ=environ)
    return [f"{each.severity} {each.subject}" for each in found("peer-to-peer-hazard", stack)]


def test_an_iommu_between_cards_on_pcie() -> None:
    assert hazard() == ["warning host.iommu"]
    assert hazard(fact="pcie_acs") == ["warning host.pcie_acs"]
    assert hazard(gpu="NVIDIA L40S") == ["note host.iommu"]


@pytest.mark.parametrize(
    "near_miss",
    [{"count": 1}, {"environ": 'NCCL_P2P_DISABLE = "1"'}, {"gpu": "NVIDIA H100 80GB HBM3"},
     {"value": "false", "gpu": "Tesla T4"}, {"environ": 'NCCL_P2P_LEVEL = "LOC"'}],
)  # fmt: skip
def test_no_hazard(near_miss: dict[str, object]) -> None:
    assert hazard(**near_miss) == []  # type: ignore[arg-type]


def test_several_workstation_cards_are_worth_a_note() -> None:
    assert hazard(value="false", gpu="NVIDIA GeForce RTX 4090") == ["note environ.NCCL_P2P_DISABLE"]
    stack = CARDS.format(fact="iommu", value="false", gpu="NVIDIA GeForce RTX 4090", count=2, environ="")
    assert only("peer-to-peer-hazard", stack).quiet
