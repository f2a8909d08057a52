"""A manifest as rules ask it: builds that are spelled out, drivers known by another fact, what was not seen."""

import pytest

from envlock.manifest.read import loads
from envlock.rules.stack import Stack, cuda_of_build


def stack(text: str, source: str = "live") -> Stack:
    return Stack(loads(f'schema = "envlock/1"\n[capture]\nsource = "{source}"\n{text}'))


@pytest.mark.parametrize(
    ("text", "cuda"),
    [
        ("2.4.0+cu124", "12.4"),
        ("1.7.1+cu92", "9.2"),
        ("1.4.0+cu100", "10.0"),
        ("0.4.1+cu10", "10"),
        ("2.0+cu11", "11"),
        ("0.8.2+cu12", "12"),
        ("0.8.2+cu13", "13"),
        ("2.4.0+cpu", ""),
        ("2.4.0", None),
        ("py3.9_cuda11.3_cudnn8.2.0_0", "11.3"),
        ("cuda112py310h51fe464_0", "11.2"),
        ("py39_cpu_0", ""),
        ("cpu_py311h1_0", ""),
        ("py311h06a4308_0", None),
    ],
)
def test_the_cuda_that_a_version_or_a_build_spells_out(text: str, cuda: str | None) -> None:
    assert cuda_of_build(text) == cuda


@pytest.mark.parametrize(
    ("said", "version", "address"),
    [
        ('version = "570.86.15"\nkernel_module = "560.35.03"', "570.86.15", "driver.version"),
        (
            'libcuda = "/usr/lib/libcuda.so.570.86.15"\nkernel_module = "560.35.03"',
            "570.86.15",
            "driver.libcuda",
        ),
        # What CUDA brings for forward compatibility is not of the driver.
        (
            'libcuda = "/usr/local/cuda/compat/libcuda.so.570.86.15"\nkernel_module = "535.104.05"',
            "535.104.05",
            "driver.kernel_module",
        ),
        (
            'kernel_module = "535.104.05"\n[package.system]\nbash = "5.1"\nlibnvidia-compute-535 = "535.54.03-0ubuntu1"',
            "535.54.03",
            "package.system.libnvidia-compute-535",
        ),
        ("", None, "driver.version"),
    ],
)
def test_the_fact_that_tells_the_driver(said: str, version: str | None, address: str) -> None:
    seen = stack(f"[driver]\n{said}\n")
    assert (seen.driver.version, seen.driver_address) == (version, address)


def test_a_fact_of_a_table_that_could_not_be_seen_is_not_absent() -> None:
    text = '[capture.unobserved]\n"package.pip" = "no Python"\n'
    assert stack(text).unobserved("package.pip.numpy") == "no Python"
    assert stack(text).unobserved("package.conda.numpy") is None
    assert not stack(text).absent("package.pip.numpy", None)
    assert stack(text).absent("package.conda.numpy", None)
    assert not stack(text).absent("package.conda.numpy", "1.26.4")
    assert not stack(text, "import").absent("package.conda.numpy", None)


def test_a_build_is_what_all_that_spells_it_out_says() -> None:
    text = (
        '[framework.torch]\nversion = "2.4.0"\n[package.conda]\n'
        'pytorch = { version = "2.4.0", build = "py3.11_cuda12.1_cudnn8.9.2_0" }\n'
    )
    build = stack(text).build("torch")
    assert build is not None
    assert (build.label, build.cuda, build.cudnn) == ("torch 2.4.0", "12.1", "8.9.2")
    assert build.facts == (("package.conda.pytorch", "py3.11_cuda12.1_cudnn8.9.2_0"),)


@pytest.mark.parametrize(("stated", "cuda"), [("12.4", "12.4"), ("", ""), ("N/A", "12.1")])
def test_what_a_framework_states_outranks_its_spelling_where_it_says_something(
    stated: str, cuda: str
) -> None:
    build = stack(f'[framework.torch]\nversion = "2.4.0+cu121"\ncuda = "{stated}"\n').build("torch")
    assert build is not None
    assert build.cuda == cuda
    assert build.facts == (("framework.torch.cuda", stated), ("framework.torch.version", "2.4.0+cu121"))


def test_pips_copy_is_imported_over_condas() -> None:
    text = (
        '[package.pip]\ntorch = { version = "2.5.1" }\n[package.conda]\npytorch = { version = "2.4.0" }\n'
        'tensorflow = { version = "2.15.0" }\ntensorflow-base = { version = "2.14.0" }\n'
    )
    seen = stack(text)
    assert seen.packages["torch"].address == "package.pip.torch"
    assert seen.packages["tensorflow"].address == "package.conda.tensorflow"
    assert seen.version_of("torch") == seen.package("torch")


def test_a_package_without_a_version_has_that_of_its_module() -> None:
    text = '[package.pip]\ntorch = {}\n[framework.torch]\nversion = "2.4.0"\nsource = "conda"\n'
    held = stack(text).version_of("torch")
    assert held is not None
    assert (held.version, held.address, held.manager) == ("2.4.0", "framework.torch.version", "conda")
