"""Every command as a user runs it: what it prints where, and its exit code."""

import json
import sys

import jsonschema
import pytest

from envlock.manifest.read import loads
from tests.cli.support import EXAMPLES, TOP, run

HEALTHY = EXAMPLES / "train-h100.toml"
OLD_DRIVER = EXAMPLES / "old-driver.toml"
OTHER_NCCL = EXAMPLES / "other-nccl.toml"
SCHEMA = json.loads((TOP / "schemas" / "report.schema.json").read_text())


def report(*arguments, code):
    done = run(*arguments, "--json")
    assert done.returncode == code, done.stderr
    found = json.loads(done.stdout)
    jsonschema.validate(found, SCHEMA)
    return found


def test_check_of_a_healthy_stack():
    done = run("check", HEALTHY)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("fine: nothing wrong was found")


def test_check_names_the_driver_with_evidence_a_fix_and_a_source():
    found = report("check", OLD_DRIVER, code=1)
    assert found["verdict"] == "problem"
    first = found["findings"][0]
    assert (first["rule"], first["severity"], first["layer"]) == (
        "driver-too-old-for-cuda",
        "error",
        "driver",
    )
    assert "470.256.02 is too old for CUDA 12.8" in first["message"] and "525.60.13" in first["message"]
    assert {"address": "driver.version", "value": "470.256.02"} in first["evidence"]
    assert any(fix["address"] == "driver.version" and fix["to"] == ">=525.60.13" for fix in first["fixes"])
    assert first["source"]


def test_check_reads_standard_input():
    done = run("check", "-", stdin=OLD_DRIVER.read_text())
    assert done.returncode == 1 and "470.256.02" in done.stdout


def test_diff_names_the_driver_first():
    found = report("diff", OLD_DRIVER, HEALTHY, code=1)
    assert found["bad"] == "mine"
    cause = found["causes"][0]
    assert (cause["address"], cause["proven"], cause["rule"]) == (
        "driver.version",
        True,
        "driver-too-old-for-cuda",
    )
    assert "driver.kernel_module" in cause["addresses"]
    assert all(finding["side"] in ("mine", "theirs") for finding in found["findings"])


def test_diff_turned_round_blames_the_same_side():
    found = report("diff", HEALTHY, OLD_DRIVER, code=1)
    assert found["bad"] == "theirs"
    assert found["causes"][0]["address"] == "driver.version"


def test_diff_of_a_manifest_with_itself_is_empty():
    done = run("diff", HEALTHY, HEALTHY)
    assert (done.returncode, done.stdout) == (0, "no difference\n")
    assert report("diff", HEALTHY, HEALTHY, code=0)["changes"] == []


def test_diff_never_calls_unobserved_facts_a_difference(tmp_path):
    blind = tmp_path / "ci.toml"
    text = HEALTHY.read_text()
    start, end = text.index("\n[driver]"), text.index("\n[container]")
    blind.write_text(
        text[:start] + text[end:] + '\n[capture.unobserved]\ndriver = "no driver here"\ngpu = "no GPU here"\n'
    )
    found = report("diff", HEALTHY, blind, code=0)
    assert found["changes"] == []
    assert {"address": "driver", "reason": "no driver here", "side": "theirs"} in found["unobserved"]


def test_verify_finds_the_nccl_and_says_how_to_take_it():
    done = run("verify", HEALTHY, "--against", OTHER_NCCL)
    assert done.returncode == 1
    assert "package.pip.nvidia-nccl-cu12  2.27.5 -> 2.28.9" in done.stdout
    assert done.stdout.rstrip().endswith(f"envlock update {HEALTHY}")
    assert "envlock update" not in run("verify", HEALTHY, "--against", OTHER_NCCL, "--no-fix-hint").stdout


def test_verify_of_the_lock_itself_is_fine():
    done = run("verify", HEALTHY, "--against", HEALTHY)
    assert (done.returncode, done.stdout) == (0, f"fine: matches {HEALTHY}\n")


def test_verify_says_that_a_machine_does_not_satisfy():
    found = report("verify", HEALTHY, "--against", OLD_DRIVER, code=1)
    assert [each["address"] for each in found["changes"]] == ["driver.version"]
    assert found["findings"][0]["rule"] == "driver-too-old-for-cuda"


def test_update_takes_the_drift_and_keeps_what_people_wrote(tmp_path):
    lock = tmp_path / "env.toml"
    lock.write_text(HEALTHY.read_text())
    assert run("update", lock, "--against", OTHER_NCCL).returncode == 0
    text = lock.read_text()
    assert loads(text).package.pip["nvidia-nccl-cu12"].version == "2.28.9"
    assert text.startswith(HEALTHY.read_text().splitlines()[0])
    assert (
        text[text.index("# ---- what people wrote") :]
        == HEALTHY.read_text()[HEALTHY.read_text().index("# ---- what people wrote") :]
    )
    assert run("verify", lock, "--against", OTHER_NCCL).returncode == 0


def test_explain():
    done = run("explain", "driver-too-old-for-cuda")
    assert done.returncode == 0
    assert "minor-version compatibility" in done.stdout and "Source:" in done.stdout
    listed = run("explain").stdout
    assert "driver-too-old-for-cuda" in listed and "requirement-unmet" in listed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("check", "none.toml"), "envlock: cannot read none.toml: No such file or directory"),
        (("diff", "none.toml", HEALTHY), "envlock: cannot read none.toml: No such file or directory"),
        (("diff", HEALTHY, OLD_DRIVER, "--log", "none.log"), "envlock: cannot read none.log: No such file or directory"),
        (("explain", "driver-too-old"), "did you mean driver-too-old-for"),
        (("check", HEALTHY, "--matrix", "none.toml"), "none.toml"),
        (("verfy", "x"), "Did you mean 'verify'?"),
        (("diff", "-", "-"), "standard input can be read only once"),
        (("capture", "-o", "/nonexistent/env.toml"), "envlock: cannot write /nonexistent/env.toml: No such file or directory"),
        (("capture", "--prefix", "/nonexistent"), "/nonexistent"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_sentence_and_exit_2(arguments, sentence, tmp_path):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert done.stdout == ""
    assert sentence in done.stderr and "Traceback" not in done.stderr


def test_a_manifest_that_is_wrong_names_file_line_and_address(tmp_path):
    bad = tmp_path / "env.toml"
    bad.write_text('schema = "envlock/1"\n[package.pip]\nnumpy = 3\n')
    done = run("check", "env.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "envlock: env.toml:3: package.pip.numpy: expected a table, got an integer\n"


def test_colour_is_for_terminals_only_and_no_color_wins():
    assert "\x1b" not in run("check", OLD_DRIVER).stdout
    assert "\x1b[31;1m" in run("check", OLD_DRIVER, env={"FORCE_COLOR": "1"}).stdout
    assert "\x1b" not in run("check", OLD_DRIVER, env={"FORCE_COLOR": "1", "NO_COLOR": "1"}).stdout


def test_terminal_escapes_in_a_manifest_are_not_printed(tmp_path):
    evil = tmp_path / "evil.toml"
    evil.write_text(OLD_DRIVER.read_text().replace("470.256.02", "470.256.02\\u001b]0;owned\\u0007"))
    for arguments in (("check", evil), ("diff", evil, HEALTHY), ("verify", HEALTHY, "--against", evil)):
        assert "\x1b" not in run(*arguments).stdout


def test_version_help_and_completion():
    import envlock

    assert run("--version").stdout == f"envlock, version {envlock.__version__}\n"
    assert run("-h").stdout == run("--help").stdout
    completion = run(
        env={"_ENVLOCK_COMPLETE": "bash_complete", "COMP_WORDS": "envlock ch", "COMP_CWORD": "1"}
    )
    assert "check" in completion.stdout


def test_the_list_of_commands_says_what_each_command_says_first():
    import importlib

    from envlock.cli import COMMANDS

    for name, line in COMMANDS.items():
        module = importlib.import_module(
            f"envlock.cli.{name}_" if name == "import" else f"envlock.cli.{name}"
        )
        assert module.command.name == name
        assert line.endswith(".") and len(line) < 75, name


@pytest.mark.parametrize("arguments", [("--help",), ("check", str(HEALTHY)), ("explain", "numpy-abi")])
def test_start_up_imports_nothing_heavy(arguments):
    code = (
        "import sys, runpy; sys.argv = ['envlock', *sys.argv[1:]]\n"
        "try: runpy.run_module('envlock', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print([m for m in ('deepdiff', 'conda_lock', 'rich', 'tomlkit', 'numpy') if m in sys.modules], file=sys.stderr)"
    )
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=TOP, check=False
    )
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_a_closed_pipe_is_no_error():
    import subprocess

    done = subprocess.run(
        f"{sys.executable} -m envlock explain | head -1",
        shell=True,
        capture_output=True,
        text=True,
        cwd=TOP,
        check=False,
    )
    assert done.returncode == 0 and done.stderr == ""
