"""What the pages say is what happens: transcripts are true, and both of the README's commands work."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tools.fill_readme import fill

TOP = Path(__file__).parent.parent
README = (TOP / "README.md").read_text()


def block(mark):
    return re.search(rf"<!-- {mark} -->\n```console\n(.*?)```", README, re.DOTALL).group(1)


def test_the_transcripts_in_the_readme_are_what_the_commands_print():
    assert fill(README) == README, "run python tools/fill_readme.py"


def test_the_main_job_works_word_for_word_in_a_clean_copy(tmp_path):
    clone = tmp_path / "clone"
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=TOP, capture_output=True, check=True
    ).stdout.split(b"\0")
    for name in filter(None, tracked):
        source, target = TOP / os.fsdecode(name), clone / os.fsdecode(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.exists():
            target.write_bytes(source.read_bytes())
    environ = {
        key: value
        for key, value in os.environ.items()
        if key not in ("PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX")
    }
    # The machine's python3 is the one that runs the tests.
    shim = tmp_path / "bin"
    shim.mkdir()
    (shim / "python3").symlink_to(sys.executable)
    environ["PATH"] = f"{shim}:{environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", block("main job")],
        cwd=clone,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sys.path.insert(0, str(TOP))
    import envlock

    manifest = envlock.load(str(clone / "env.toml"))
    assert manifest.capture.source == "live"
    assert manifest.python.version == ".".join(map(str, sys.version_info[:3]))


def test_the_ci_script_runs_the_readme_s_own_test_command():
    script = (TOP / ".ci" / "run").read_text()
    line = next(line for line in script.splitlines() if line.startswith("command=$("))
    command = line.removeprefix("command=$(").removesuffix(")")
    found = subprocess.run(
        ["bash", "-c", command], cwd=TOP, capture_output=True, text=True, check=True
    ).stdout
    assert found.strip() == block("tests").strip()


def test_the_readme_never_tells_anyone_to_install_the_other_envlock():
    for page in TOP.glob("*.md"):
        assert not re.search(r"pip3? install (-\S+ )*['\"]?envlock(?!-stack)\b", page.read_text()), page


def test_every_command_that_the_readme_names_exists():
    from envlock.cli import COMMANDS

    assert set(re.findall(r"`envlock ([a-z]+)", README)) <= set(COMMANDS)


def test_every_shell_command_on_the_pages_is_one_that_a_test_runs():
    """Console blocks hold only the two marked jobs and commands whose output stands below them."""
    shown = set(re.findall(r"^\$ (.*)$", README, re.MULTILINE))
    compared = set(re.findall(r"<!-- output of: (.*?) -->", README))
    assert shown <= compared


def test_the_picture_is_what_the_command_prints():
    from tools.make_picture import PICTURE, draw, printed

    assert draw(printed()) == PICTURE.read_text(encoding="utf-8"), "run python tools/make_picture.py"
