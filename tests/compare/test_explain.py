"""From a log and a stack to the causes that are confirmed, ruled out and open."""

import io

import pytest

from envlock.compare.explain import explain, lacking, read
from envlock.compare.logs import BLOCK, lines_of
from envlock.compare.symptoms import read_symptoms
from envlock.manifest.read import loads
from envlock.matrix.loader import load

TOO_OLD = "RuntimeError: The NVIDIA driver on your system is too old (found version 11040). Please update\n"
NO_KERNEL = "CUDA error: no kernel image is available for execution on the device\n"
OLD_DRIVER = """
schema = "envlock/1"
[driver]
version = "470.256.02"
cuda = "11.4"
[[gpu]]
name = "NVIDIA A100-SXM4-80GB"
compute_capability = "8.0"
[framework.torch]
version = "2.9.1+cu128"
cuda = "12.8"
archs = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
"""


@pytest.fixture(scope="module")
def matrix():
    return load()


def rules(pointed):
    return [each.rule for each in pointed]


def test_a_cause_is_confirmed_where_the_pointed_rule_finds_it(matrix):
    result = explain(["step 1\n", TOO_OLD], matrix, loads(OLD_DRIVER))
    ((finding, symptom),) = result.confirmed
    assert finding.rule == "driver-too-old-for-cuda" and finding.subject == "driver.version"
    assert (symptom.line, symptom.text) == (2, TOO_OLD.strip())
    assert result.verdict == "problem"


def test_a_pointed_rule_whose_facts_are_there_and_fine_is_ruled_out(matrix):
    result = explain([NO_KERNEL], matrix, loads(OLD_DRIVER))
    assert result.confirmed == () and result.undecided == ()
    assert "gpu-arch-not-in-build" in rules(result.ruled_out)
    assert result.verdict == "fine"
    # That the driver is too old is not what this error says, and is not lost either.
    assert [finding.rule for finding in result.others] == ["driver-too-old-for-cuda"]


def test_what_could_not_be_seen_stays_open_and_is_named_with_the_reason(matrix):
    text = (
        OLD_DRIVER.replace('[driver]\nversion = "470.256.02"\ncuda = "11.4"\n', "")
        + '[capture.unobserved]\ndriver = "no /proc/driver/nvidia/version"\n'
    )
    result = explain([TOO_OLD], matrix, loads(text))
    (open_,) = [each for each in result.undecided if each.rule == "driver-too-old-for-cuda"]
    assert open_.missing == ("driver.version",)
    assert ("driver.version", "no /proc/driver/nvidia/version") in result.unobserved
    assert result.verdict == "unknown"


def test_a_paste_that_is_silent_decides_nothing(matrix):
    pasted = loads('schema = "envlock/1"\n[capture]\nsource = "import"\n[driver]\nversion = "550.54.14"\n')
    result = explain([NO_KERNEL], matrix, pasted)
    (open_,) = [each for each in result.undecided if each.rule == "gpu-arch-not-in-build"]
    assert open_.missing == ("gpu", "framework")
    assert result.ruled_out == ()


def test_a_capture_that_looked_and_found_nothing_lacks_nothing():
    seen = loads('schema = "envlock/1"\n[capture]\nsource = "live"\n[driver]\nversion = "550.54.14"\n')
    assert lacking("gpu-arch-not-in-build", seen) == ()


def test_without_a_stack_only_what_the_log_points_to(matrix):
    result = explain([TOO_OLD], matrix)
    assert rules(result.pointed) == ["driver-too-old-for-cuda"]
    assert (result.confirmed, result.ruled_out, result.undecided) == ((), (), ())


def test_an_import_name_in_an_error_leads_to_its_project(matrix):
    (symptoms, _) = read(["ModuleNotFoundError: No module named 'cv2'\n"], matrix)
    assert any(
        address.startswith("package.pip.opencv") for symptom in symptoms for address in symptom.addresses
    )


def test_the_text_of_a_known_breakage_points_to_its_packages(matrix):
    line = "ModuleNotFoundError: No module named 'connexion.decorators.validation'\n"
    symptoms, _ = read([line], matrix)
    (symptom,) = [each for each in symptoms if each.rules == ("known-breakage",)]
    assert {"package.pip.connexion", "package.pip.apache-airflow"} <= set(symptom.addresses)


@pytest.mark.parametrize("before", [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 7])
def test_a_long_log_loses_no_line_and_no_number(matrix, before):
    lines = ["loss 0.1\n"] * before + [NO_KERNEL] + ["loss 0.2\n"] * 3 + [NO_KERNEL]
    (symptom,), count = read(iter(lines), matrix)
    assert (symptom.line, symptom.times, count) == (before + 1, 2, before + 5)


def test_a_log_without_line_ends_and_with_junk_is_bounded(matrix):
    hostile = io.StringIO("\x1b[31m" + "A" * 5_000_000 + "\n" + NO_KERNEL)
    (symptom,), count = read(lines_of(hostile), matrix)
    assert (symptom.line, count) == (2, 2)


def test_a_log_that_says_nothing_known(matrix):
    result = explain(["all is well\n"], matrix, loads(OLD_DRIVER))
    assert result.symptoms == () and result.confirmed == ()
    assert result.verdict == "unknown"


TIMEOUT = "[rank0]:[E1128 ProcessGroupNCCL.cpp:632] remote process exited or there was a network error, NCCL version 2.27.5\n"
WAYS = {
    "ranks": "[rank3]: RuntimeError: {}",
    "slurm": "17: 2026-11-28 10:00:00,123 - train - ERROR - {}",
    "torchrun": "[default3]:RuntimeError: {}",
    "ray": "\x1b[36m(RayWorkerWrapper pid=4711, ip=10.0.0.7)\x1b[0m RuntimeError: {}",
    "windows": "RuntimeError: {}\r",
    "colours": "\x1b[1;31mRuntimeError\x1b[0m: \x1b[33m{}\x1b[0m",
    "json": '{{"level": "error", "msg": "Traceback (most recent call last):\\n  File \\"t.py\\"\\nRuntimeError: {}\\n"}}',
    "docker": '{{"log":"RuntimeError: {}\\n","stream":"stderr","time":"2026-11-28T10:00:00.1Z"}}',
    "progress": "Epoch 1: 10%|#| 1/10 [00:01<00:02]\x1b[A" * 200 + "RuntimeError: {}",
}


@pytest.mark.parametrize("way", WAYS)
def test_the_first_error_is_the_one_that_the_others_follow_from_however_the_log_is_written(matrix, way):
    line = WAYS[way].format(NO_KERNEL.strip()) + "\n"
    result = explain([TIMEOUT, line, TIMEOUT], matrix, loads(OLD_DRIVER))
    first, second = result.symptoms
    assert (first.line, first.rules) == (2, ("gpu-arch-not-in-build",))
    assert "no kernel image" in first.text and "\x1b" not in first.text
    assert (second.line, second.times, second.follows) == (1, 2, True)
    assert rules(result.pointed)[0] == "gpu-arch-not-in-build"


def test_an_error_that_follows_from_another_is_all_that_a_log_may_hold(matrix):
    (symptom,), _ = read([TIMEOUT], matrix)
    assert symptom.follows and "nodes-differ" in symptom.rules


def test_for_a_difference_an_error_speaks_that_follows_from_no_other(matrix):
    found = read_symptoms([TIMEOUT, NO_KERNEL], (), matrix)
    assert list(found.rules) == ["gpu-arch-not-in-build"] and "host.interfaces" not in found.addresses
    assert "nodes-differ" in read_symptoms([TIMEOUT], (), matrix).rules
