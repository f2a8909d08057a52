"""``envlock explain`` as a user runs it: rules, and logs with and without a stack."""

import json

import jsonschema
import pytest

from envlock.rules.engine import all_rules
from tests.cli.support import EXAMPLES, TOP, run

SCHEMA = json.loads((TOP / "schemas" / "report.schema.json").read_text())
TOO_OLD = "RuntimeError: The NVIDIA driver on your system is too old (found version 11040)."
NO_KERNEL = "RuntimeError: CUDA error: no kernel image is available for execution on the device"


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "train.log"
    path.write_text(f"epoch 0\nTraceback (most recent call last):\n{TOO_OLD}\n")
    return path


def test_a_rule_and_the_list_of_them():
    one = run("explain", "driver-too-old-for-cuda")
    assert one.returncode == 0 and "Fix:" in one.stdout and "Source:" in one.stdout
    assert len(run("explain").stdout.splitlines()) == len(all_rules())
    near = run("explain", "driver-too-old")
    assert near.returncode == 2 and "did you mean" in near.stderr


def test_a_log_alone_says_what_it_points_to(log):
    done = run("explain", "--log", log)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"{log}: 1 known error in 3 lines"
    assert "driver-too-old-for-cuda  A CUDA runtime needs a driver" in done.stdout


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_log_of_windows_is_read_however_it_is_encoded(tmp_path, encoding):
    path = tmp_path / "train.log"
    path.write_bytes(f"epoch 0\r\n{TOO_OLD}\r\n".encode(encoding))
    done = run("explain", "--log", path)
    assert "1 known error in 2 lines" in done.stdout and f'line 2: "{TOO_OLD}"' in done.stdout


def test_with_a_stack_the_confirmed_cause_comes_first_with_its_fix(log):
    done = run("explain", "--log", log, EXAMPLES / "old-driver.toml")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith("this stack confirms 1 cause")
    assert lines[1] == f'  line 3: "{TOO_OLD}"'
    assert "error: driver 470.256.02 is too old for CUDA 12.8" in done.stdout and "fix:" in done.stdout


def test_standard_input_and_json_for_what_is_ruled_out():
    done = run("explain", "--log", "-", EXAMPLES / "train-h100.toml", "--json", stdin=NO_KERNEL + "\n")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    jsonschema.validate(found, SCHEMA)
    assert found["findings"] == [] and found["verdict"] == "fine"
    assert {"rule": "gpu-arch-not-in-build", "line": 1} in found["ruled_out"]
    assert found["symptoms"][0]["text"] == NO_KERNEL


def test_what_a_paste_does_not_say_is_named(tmp_path):
    paste = tmp_path / "paste.toml"
    paste.write_text('schema = "envlock/1"\n[capture]\nsource = "import"\n[driver]\nversion = "570.86.15"\n')
    done = run("explain", "--log", "-", paste, stdin=NO_KERNEL + "\n")
    assert done.returncode == 0
    assert "cannot be decided, for want of:" in done.stdout
    assert "gpu-arch-not-in-build: gpu, framework" in done.stdout


def test_control_characters_of_a_log_do_not_reach_the_terminal(tmp_path):
    log = tmp_path / "odd.log"
    log.write_bytes(b"\x1b]0;title\x07" + TOO_OLD.encode() + b"\xff\x1b[2J\n")
    done = run("explain", "--log", log)
    assert "\x1b" not in done.stdout and TOO_OLD in done.stdout


def test_slips():
    assert run("explain", "--log", "nowhere.log").returncode == 2
    assert "cannot read nowhere.log" in run("explain", "--log", "nowhere.log").stderr
    assert run("explain", "--log", "-", "-", stdin="").returncode == 2
    assert run("explain", "--json").returncode == 2
