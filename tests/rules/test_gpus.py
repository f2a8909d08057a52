"""GPUs by the names that drivers, clouds and people give them."""

from __future__ import annotations

import pytest

from envlock.manifest.read import loads
from envlock.rules.gpus import Device, devices
from envlock.rules.stack import Stack
from tests.rules.support import matrix


def device(text: str) -> Device:
    (found,) = devices(Stack(loads(f'schema = "envlock/1"\n[[gpu]]\n{text}\n')), matrix())
    return found


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("NVIDIA H100 80GB HBM3", "9.0"),
        ("nvidia h100 nvl", "9.0"),
        ("H100-SXM5-80GB", "9.0"),
        ("A100-SXM4-40GB MIG 3g.20gb", "8.0"),
        ("NVIDIA A100-PCIE-40GB", "8.0"),
        ("Tesla V100-SXM2-32GB", "7.0"),
        ("Tesla T4", "7.5"),
        ("Tesla H100 96 GB", "9.0"),
        ("quadro L4 24GB", "8.9"),
        ("B200 GPU device", "10.0"),
        ("GTX1650 Super", "7.5"),
        ("5090", "12.0"),
        ("A1", None),  # begins A10 and A100
        ("Titan", None),  # of several capabilities
        ("RTX4090", "8.9"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "8.9"),
        ("GeForce GTX1080Ti", "6.1"),
        ("RTX 2080Super", "7.5"),
        ("Quadro P5000 with Max-Q", None),
        ("NVIDIA Graphics Device", None),
        ("RTX 9999", None),
    ],
)
def test_a_name_means_a_capability(name: str, capability: str | None) -> None:
    found = device(f'name = "{name}"')
    assert found.capability == capability
    assert found.label == (f"{name} (sm_{capability.replace('.', '')})" if capability else name)


def test_what_the_driver_says_outranks_the_table_and_what_is_no_version_does_not() -> None:
    assert device('name = "NVIDIA A100"\ncompute_capability = "8.6"').capability == "8.6"
    assert device('name = "NVIDIA A100-SXM4-40GB"\ncompute_capability = "N/A"').capability == "8.0"


def test_a_gpu_without_a_name_is_one() -> None:
    assert device('compute_capability = "9.0"') == Device(None, "9.0", None, "GPU (sm_90)")
    assert device("count = 1") == Device(None, None, None, "GPU")


def test_a_name_tells_the_product_line() -> None:
    lines = {
        name: device(f'name = "{name}"').line
        for name in ("NVIDIA L4", "NVIDIA GeForce RTX 5090", "Tesla T4", "other")
    }
    assert lines == {
        "NVIDIA L4": "data centre",
        "NVIDIA GeForce RTX 5090": "geforce",
        "Tesla T4": "data centre",
        "other": None,
    }
