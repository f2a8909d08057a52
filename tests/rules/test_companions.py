"""Companions of frameworks: those of another release or CUDA, and those that belong together."""

import pytest

from envlock.manifest.read import loads as read
from envlock.rules.engine import run
from tests.rules.support import found, matrix, only, pip


def test_a_torchvision_of_another_torch_is_an_error_and_its_own_release_cures_it():
    finding = only("framework-companion-mismatch", pip(torch="2.4.0", torchvision="0.20.1"))
    assert (finding.subject, finding.severity) == ("package.pip.torchvision", "error")
    assert "2.4.0" in finding.message
    assert {fix.to for fix in finding.fixes} >= {"0.19.0"}


def test_what_the_wheel_says_itself_outranks_the_table():
    text = pip(torch="2.5.1", torchvision="0.19.0") + '[requires]\ntorchvision = ["numpy", "torch==2.5.1"]\n'
    assert found("framework-companion-mismatch", text) == []


@pytest.mark.parametrize(
    "versions",
    [
        {"torch": "2.4.0+cu124", "torchvision": "0.19.0+cu124"},
        {"torch": "2.5.0a0+e000cf0ad9.nv24.10", "torchvision": "0.20.0a0"},
        {"torch": "2.6.0", "torchcodec": "0.2.1", "torchdata": "0.11.0"},
    ],
)
def test_companions_that_belong_together_are_left_alone(versions):
    assert found("framework-companion-mismatch", pip(**versions)) == []


def test_a_companion_built_for_another_cuda_major_is_an_error():
    finding = only("framework-companion-mismatch", pip(torch="2.4.0+cu124", torchvision="0.19.0+cu118"))
    assert finding.severity == "error"
    assert "CUDA 11.8" in finding.message
    assert "CUDA 12.4" in finding.message
    assert finding.fixes[0].to == "0.19.0+cu124"


def test_a_companion_is_held_to_torchs_cuda_where_no_version_is_stated():
    text = '[framework.torch]\ncuda = "11.7"\n[framework.torchvision]\ncuda = "{}"\n'
    finding = only("framework-companion-mismatch", text.format("11.8"), "import")
    assert (finding.subject, finding.severity) == ("framework.torchvision", "warning")
    assert found("framework-companion-mismatch", text.format("11.7"), "import") == []


@pytest.mark.parametrize(("torch", "verdict"), [("2.99.0+cu130", "unknown"), ("2.15.0", "fine")])
def test_a_torch_newer_than_the_matrix_is_unknown_neither_fine_nor_wrong(torch, verdict):
    stack = f'schema = "envlock/1"\n[framework.torch]\nversion = "{torch}"\ncuda = "13.0"\n'
    result = run(read(stack + pip(torch=torch, torchvision="0.30.0")), matrix())
    assert result.verdict == verdict
    assert not result.findings
    assert ["torch 2.99.0+cu130" in each.needs for each in result.unknown] == [True] * (verdict == "unknown")


def test_the_last_torchtext_does_not_follow_later_torches():
    assert (
        only("framework-companion-mismatch", pip(torch="2.5.1", torchtext="0.18.0")).subject
        == "package.pip.torchtext"
    )
    assert found("framework-companion-mismatch", pip(torch="2.3.1", torchtext="0.18.0")) == []


def test_a_jaxlib_newer_than_jax_and_a_plugin_of_another_jaxlib():
    finding = only("framework-companion-mismatch", pip(jax="0.4.30", jaxlib="0.4.35"))
    assert (finding.subject, finding.severity) == ("package.pip.jaxlib", "error")
    plugin = only(
        "framework-companion-mismatch", pip(jax="0.5.0", jaxlib="0.5.0", jax_cuda12_plugin="0.4.38")
    )
    assert plugin.subject == "package.pip.jax-cuda12-plugin"
    assert (
        found("framework-companion-mismatch", pip(jax="0.5.0", jaxlib="0.5.0", jax_cuda12_plugin="0.5.0"))
        == []
    )


def test_keras_3_does_not_belong_to_tensorflow_2_15():
    finding = only("framework-companion-mismatch", pip(tensorflow="2.15.0", keras="3.3.3"))
    assert (finding.subject, finding.severity) == ("package.pip.keras", "error")
    assert found("framework-companion-mismatch", pip(tensorflow="2.16.1", keras="3.3.3")) == []


@pytest.mark.parametrize(
    ("probability", "tensorflow", "severity", "cures"),
    [
        ("0.25.0", "2.17.1", "error", {"==0.24.*", ">=2.18"}),
        ("0.23.0", "2.16.1", "warning", {"==0.24.*", ">=2.15,<2.16"}),
        ("0.21.0", "2.14.0", "warning", {"==0.22.*", ">=2.13,<2.14"}),
        ("0.17.0", "2.10.0", "warning", {"==0.18.*", ">=2.9,<2.10"}),
    ],
)
def test_tensorflow_probability_refuses_an_older_tensorflow_and_some_break_with_a_newer(
    probability, tensorflow, severity, cures
):
    text = pip(tensorflow=tensorflow, tensorflow_probability=probability)
    finding = only("framework-companion-mismatch", text)
    assert (finding.subject, finding.severity) == ("package.pip.tensorflow-probability", severity)
    assert {fix.to for fix in finding.fixes} == cures
    for fix in finding.fixes:
        versions = {"tensorflow": tensorflow, "tensorflow_probability": probability}
        for address, value in fix.trial.items():
            versions[address.split(".")[2].replace("-", "_")] = value
        assert found("framework-companion-mismatch", pip(**versions)) == []


@pytest.mark.parametrize(
    ("probability", "tensorflow"),
    [
        ("0.25.0", "2.18.0"),
        ("0.25.0", "2.21.0"),
        ("0.24.0", "2.17.0"),
        ("0.20.1", "2.13.0"),
        ("0.14.1", "2.6.5"),
    ],
)
def test_a_tensorflow_probability_that_nothing_is_known_against_is_left_alone(probability, tensorflow):
    text = pip(tensorflow=tensorflow, tensorflow_probability=probability)
    assert found("framework-companion-mismatch", text) == []


def test_tensorflow_text_belongs_to_one_minor_of_tensorflow():
    finding = only("framework-companion-mismatch", pip(tensorflow="2.20.0", tensorflow_text="2.21.1"))
    assert (finding.subject, finding.severity) == ("package.pip.tensorflow-text", "error")
    assert found("framework-companion-mismatch", pip(tensorflow="2.21.0", tensorflow_text="2.21.1")) == []


def test_a_companion_that_asks_for_no_release_of_torch_is_believed():
    text = pip(torch="2.4.0", torchdata="0.7.0")
    assert only("framework-companion-mismatch", text).subject == "package.pip.torchdata"
    assert (
        found("framework-companion-mismatch", text + '[requires]\ntorchdata = ["requests", "torch>=2"]\n')
        == []
    )
    other = text + '[requires]\ntorchdata = ["requests", "urllib3>=1.25"]\n'
    assert only("framework-companion-mismatch", other).subject == "package.pip.torchdata"


@pytest.mark.parametrize(
    ("release", "known"), [("2.0.0", False), ("2.1.0", True), ("2.20.0", True), ("2.21.0", False)]
)
def test_tensorboard_follows_tensorflow_from_2_1_to_2_20(release, known):
    said = found("framework-companion-mismatch", pip(tensorflow=release, tensorboard="2.9.0"))
    assert bool(said) is known


def test_the_triton_after_one_that_belongs_is_looked_at_too():
    text = pip(torch="2.6.0", triton="3.2.0", triton_windows="3.1.0.post17")
    assert only("framework-companion-mismatch", text).subject == "package.pip.triton-windows"


def test_the_plugin_after_one_that_belongs_is_looked_at_too():
    text = pip(jaxlib="0.5.0", jax_cuda12_pjrt="0.5", jax_cuda12_plugin="0.4.38")
    assert only("framework-companion-mismatch", text).subject == "package.pip.jax-cuda12-plugin"
