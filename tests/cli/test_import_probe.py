"""Pasted reports and the travelling probe, as a user runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from envlock.manifest.read import loads
from tests.cli.support import EXAMPLES, TOP, run
from tests.test_packaging import interpreter

REPORT = TOP / "tests" / "imports" / "reports" / "collect-env-2.4.txt"


def test_a_paste_becomes_a_manifest_that_can_be_checked_and_compared(tmp_path):
    done = run("import", stdin=REPORT.read_text())
    assert (done.returncode, done.stderr) == (0, "")
    manifest = loads(done.stdout)
    assert manifest.capture.source == "import"
    assert "torch" in manifest.framework
    (tmp_path / "paste.toml").write_text(done.stdout)
    assert run("check", tmp_path / "paste.toml").returncode in (0, 1)


def test_a_paste_and_a_manifest_through_pipes():
    envlock = f"{sys.executable} -m envlock"
    command = f"{envlock} diff <({envlock} import {REPORT}) <(cat {EXAMPLES / 'train-h100.toml'})"
    done = subprocess.run(["bash", "-c", command], cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "differences (mine -> theirs)" in done.stdout


def test_text_without_a_report_is_an_error():
    done = run("import", stdin="hello")
    assert done.returncode == 2 and "no report that envlock knows" in done.stderr


def observed(python, probe, *arguments, env=None):
    done = subprocess.run(
        [python, "-", *arguments], input=probe, capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.13"])
def test_the_probe_runs_from_standard_input_on_any_python_and_sees_what_a_capture_sees(version, tmp_path):
    python = interpreter(version)
    if python is None:
        pytest.skip(f"CPython {version} is not on this machine")
    probe = run("probe").stdout
    here = Path(sys.prefix)
    environ = {**os.environ, "PYTHONPATH": str(TOP)}  # as the other command has it: it is a fact
    (tmp_path / "node.json").write_text(observed(python, probe, "--prefix", str(here), env=environ))
    far = run("capture", "--from", tmp_path / "node.json", "--reproducible")
    near = run("capture", "--prefix", here, "--reproducible")
    assert far.stdout == near.stdout
    assert far.stderr == ""


def test_the_probe_leaves_nothing_behind(tmp_path):
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    observed(sys.executable, run("probe").stdout, "--root", str(tmp_path), env=home)
    assert list(tmp_path.iterdir()) == []


def test_the_probe_is_the_same_text_every_time():
    assert run("probe").stdout == run("probe").stdout


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("not json", "standard input:1: not JSON"),
        ("[]", "not a probe's output"),
        ("{}", "not a probe's output"),
        (json.dumps({"schema": "envlock-observation/1", "facts": []}), "must be tables"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_observation_is_refused(text, sentence):
    done = run("capture", "--from", "-", stdin=text)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr and "Traceback" not in done.stderr


def test_a_folder_that_holds_a_machine(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "os-release").write_text('ID=ubuntu\nVERSION_ID="24.04"\n')
    manifest = loads(run("capture", "--root", tmp_path).stdout)
    assert (manifest.capture.source, manifest.os.id, manifest.os.version) == ("root", "ubuntu", "24.04")
    assert "driver" in manifest.capture.unobserved
    assert run("capture", "--root", tmp_path / "none").returncode == 2
