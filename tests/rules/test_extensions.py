"""Compiled extensions: built for another torch, CUDA, C++ ABI or library, and near misses."""

import pytest

from envlock.rules.extensions import readings
from tests.rules.support import found, only, pip


def test_a_wheel_whose_name_says_another_torch():
    text = pip(torch="2.7.0", flash_attn="2.7.4.post1+cu12torch2.6cxx11abiFALSE")
    finding = only("extension-abi-mismatch", text)
    assert (finding.subject, finding.severity) == ("package.pip.flash-attn", "error")
    assert "torch 2.6" in finding.message
    assert finding.fixes[0].to == "2.6"
    near = pip(torch="2.6.0", flash_attn="2.7.4.post1+cu12torch2.6cxx11abiFALSE")
    assert found("extension-abi-mismatch", near) == []


def test_a_cxx_abi_other_than_torchs():
    text = '[framework.torch]\nversion = "2.6.0"\ncxx11_abi = false\n[framework.apex]\ncxx11_abi = {}\n'
    finding = only("extension-abi-mismatch", text.format("true"))
    assert finding.subject == "framework.apex"
    assert "old C++ ABI" in finding.message
    assert found("extension-abi-mismatch", text.format("false")) == []


def test_xformers_is_built_for_one_torch():
    finding = only("extension-abi-mismatch", pip(torch="2.5.1", xformers="0.0.27"))
    assert (finding.subject, finding.severity) == ("package.pip.xformers", "error")
    assert any(fix.address == "package.pip.xformers" for fix in finding.fixes)
    assert found("extension-abi-mismatch", pip(torch="2.5.1", xformers="0.0.28.post3")) == []


def test_a_conda_build_that_names_its_torch():
    text = (
        '[package.conda]\npytorch = {{ version = "2.4.0", build = "py3.11_cuda12.1_cudnn9.1.0_0" }}\n'
        'pytorch-scatter = {{ version = "2.1.2", build = "py311_torch_{}_cu121" }}\n'
    )
    finding = only("extension-abi-mismatch", text.format("2.1.0"))
    assert finding.subject == "package.conda.pytorch-scatter"
    assert "torch 2.1.0" in finding.message
    assert found("extension-abi-mismatch", text.format("2.4.0")) == []


def test_a_library_that_the_extension_was_not_compiled_with():
    text = (
        '[framework.h5py]\nbuilt_for = {{ hdf5 = "1.14.2" }}\n[package.conda]\nhdf5 = {{ version = "{}" }}\n'
    )
    assert "hdf5 1.12.1" in only("extension-abi-mismatch", text.format("1.12.1")).message
    assert found("extension-abi-mismatch", text.format("1.14.2")) == []


@pytest.mark.parametrize(("name", "told"), [("flash-attn", 1), ("mmcv", 1), ("ext", 0)])
def test_a_cuda_that_nobody_links_to_torch_says_nothing(name, told):
    text = f'[framework.{name}]\ncuda = "11.8"\n' + pip(torch="2.4.0+cu124")
    assert len(found("extension-abi-mismatch", text)) == told


def test_a_wheel_for_another_cuda_major_than_torchs():
    wheel = "2.7.4.post1+cu{}torch2.6cxx11abiFALSE"
    finding = only("extension-abi-mismatch", pip(torch="2.6.0+cu124", flash_attn=wheel.format("11")))
    assert "was built for CUDA 11, and torch 2.6.0+cu124 (CUDA 12.4) is installed" in finding.message
    assert found("extension-abi-mismatch", pip(torch="2.6.0+cu124", flash_attn=wheel.format("12"))) == []


@pytest.mark.parametrize(
    ("digits", "read"),
    [
        ("26", "2.6"),
        ("1100", "1.10.0"),
        ("113", "1.13"),
        ("270", "2.7.0"),
        ("210", "2.10"),
        ("210", "2.1.0"),
        ("2.4", "2.4"),
        ("131", "1.3.1"),
    ],
)
def test_versions_without_dots_are_read_in_every_way_that_makes_sense(digits, read):
    assert read in readings(digits)


def test_no_torch_has_a_minor_beyond_30():
    assert readings("131") == ("1.3.1",)
    assert readings("130") == ("1.3.0", "1.30")


def test_each_extension_is_judged_whatever_was_said_of_another():
    text = '[framework.apex]\nbuilt_for = { torch = "2.4.0" }\n' + pip(torch="2.5.1", xformers="0.0.27")
    said = {finding.subject for finding in found("extension-abi-mismatch", text)}
    assert said == {"framework.apex", "package.pip.xformers"}


def test_the_cuda_of_an_extension_that_links_against_torch() -> None:
    stack = '[framework.torch]\ncuda = "{}"\n[framework.{}]\ncuda = "{}"\n'
    assert only("extension-abi-mismatch", stack.format("11.8", "mmcv-full", "10.1")).severity == "error"
    assert not found("extension-abi-mismatch", stack.format("11.8", "mmcv-full", "11.6"))
    # These compare the CUDA themselves: another minor is refused by some of their releases.
    assert only("extension-abi-mismatch", stack.format("10.1", "torch-scatter", "10.2")).severity == "warning"
    assert not found("extension-abi-mismatch", stack.format("10.2", "torch-scatter", "10.2"))
    assert not found("extension-abi-mismatch", stack.format("11.8", "ctranslate2", "12"))


def test_no_wheel_is_made_for_a_torch_that_is_no_release() -> None:
    stack = '[package.pip]\nflash-attn = {{}}\ntorch = {{ version = "{}" }}\n'
    finding = only("extension-abi-mismatch", stack.format("2.2.0a0+81ea7a4"), "import")
    assert (finding.subject, finding.severity, finding.quiet) == ("package.pip.flash-attn", "note", True)
    assert not found("extension-abi-mismatch", stack.format("2.2.0+cu121"), "import")
    assert not found("extension-abi-mismatch", stack.format("2.2.0a0+81ea7a4"))  # it may be built from source
