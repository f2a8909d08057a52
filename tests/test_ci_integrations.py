"""The GitHub Action, the pre-commit hooks and the GitLab example do what they say, run as far as that is possible."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import yaml

from envlock.cli.ci import SUMMARY_LIMIT, repository_path
from tests.cli.support import EXAMPLES, TOP, run
from tests.image_support import docker_archive, file, layer

HEALTHY, OTHER_NCCL = EXAMPLES / "train-h100.toml", EXAMPLES / "other-nccl.toml"
GITHUB = {"GITHUB_ACTIONS": "true"}


def shell(script, cwd, *, path=(), **environ):
    """Run a script as GitHub's and GitLab's runners run bash steps."""
    clean = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("GITHUB_", "CI_", "ENVLOCK_")) and key not in ("VIRTUAL_ENV", "CONDA_PREFIX")
    }
    clean["PATH"] = os.pathsep.join([*map(str, path), clean["PATH"]])
    clean.update({key: str(value) for key, value in environ.items()})
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script],
        cwd=cwd, env=clean, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """Return a copy of what the action and the hooks are installed from, without what lies about."""
    target = tmp_path_factory.mktemp("check out's")
    for name in ("pyproject.toml", "README.md", "LICENSE", ".pre-commit-hooks.yaml", "action.yml"):
        shutil.copy(TOP / name, target)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("envlock", "schemas"):
        shutil.copytree(TOP / name, target / name, ignore=ignore)
    return target


@pytest.fixture(scope="session")
def bin_folder(tmp_path_factory):
    """Return a folder whose python3 runs the tests and whose envlock is the checkout's."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("python3", "python"):
        shim = folder / name
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        shim.chmod(0o755)
    shim = folder / "envlock"
    shim.write_text(f'#!/bin/sh\nPYTHONPATH="{TOP}" exec "{sys.executable}" -m envlock "$@"\n')
    shim.chmod(0o755)
    return folder


@pytest.fixture
def app(tmp_path):
    """Return a folder with an image and its lock."""
    content = layer(file("etc/os-release", "ID=debian\nVERSION_ID=12\n"))
    docker_archive(tmp_path / "app.tar", content)
    done = run("capture", "--image", tmp_path / "app.tar", "-o", tmp_path / "env.toml", "--reproducible")
    assert done.returncode == 0, done.stderr
    return tmp_path


def drift(lock):
    """Make a lock say another version than its image holds."""
    lock.write_text(lock.read_text().replace('version = "12"', 'version = "11"'))


# ---- annotations by themselves -----------------------------------------------------------------------


def test_annotations_are_chosen_under_github_actions_only():
    plain = run("verify", HEALTHY, "--against", OTHER_NCCL)
    chosen = run("verify", HEALTHY, "--against", OTHER_NCCL, env=GITHUB)
    assert plain.stdout.startswith("drift from") and chosen.stdout.startswith("::error file=")
    assert plain.returncode == chosen.returncode == 1
    for asked in ("text", "json", "sarif"):
        again = run("verify", HEALTHY, "--against", OTHER_NCCL, "--format", asked, env=GITHUB)
        assert not again.stdout.startswith("::")
    assert run("check", HEALTHY, "--json", env=GITHUB).stdout.startswith("{")
    assert run("check", EXAMPLES / "old-driver.toml", env=GITHUB).stdout.startswith("::error file=")


def test_a_file_that_is_asked_for_is_text_as_elsewhere(tmp_path):
    run("verify", HEALTHY, "--against", OTHER_NCCL, "-o", tmp_path / "out", env=GITHUB)
    assert (tmp_path / "out").read_text().startswith("drift from")


def test_a_terminal_gets_text_under_github_actions_too():
    import pty

    command = [sys.executable, "-m", "envlock", "check", str(HEALTHY)]
    outer, inner = pty.openpty()
    environ = {**os.environ, **GITHUB, "NO_COLOR": "1"}
    environ.pop("GITHUB_STEP_SUMMARY", None)
    subprocess.run(command, stdout=inner, env=environ, cwd=TOP, check=False)
    os.close(inner)
    printed = os.read(outer, 65536).decode()
    os.close(outer)
    assert printed.startswith("fine: nothing wrong was found")


def test_paths_are_those_of_the_repository(tmp_path):
    (tmp_path / "jobs").mkdir()
    lock = tmp_path / "jobs" / "env.toml"
    lock.write_text(HEALTHY.read_text())
    done = run("verify", "env.toml", "--against", OTHER_NCCL, cwd=lock.parent,
               env={**GITHUB, "GITHUB_WORKSPACE": str(tmp_path)})  # fmt: skip
    assert done.stdout.startswith("::error file=jobs/env.toml,line=")
    assert repository_path(str(lock), {"CI_PROJECT_DIR": str(tmp_path)}) == "jobs/env.toml"
    assert repository_path("/etc/os-release", {"CI_PROJECT_DIR": str(tmp_path)}) == os.path.realpath(
        "/etc/os-release"
    )


def test_the_step_s_summary_is_appended_as_markdown(tmp_path):
    summary = tmp_path / "summary.md"
    summary.write_text("of another step\n")
    for _ in range(2):
        run("verify", HEALTHY, "--against", OTHER_NCCL, env={**GITHUB, "GITHUB_STEP_SUMMARY": str(summary)})
    text = summary.read_text()
    assert text.startswith("of another step\n") and text.count("### envlock: ") == 2
    assert "| `package.pip.nvidia-nccl-cu12` | `2.27.5` | `2.28.9` |" in text


def test_a_summary_that_would_be_too_large_is_the_answer_alone(tmp_path):
    summary = tmp_path / "summary.md"
    summary.write_text("x" * (SUMMARY_LIMIT - 500) + "\n")
    run("verify", HEALTHY, "--against", OTHER_NCCL, env={**GITHUB, "GITHUB_STEP_SUMMARY": str(summary)})
    added = summary.read_text().lstrip("x")
    assert "**No: 1 fact moved" in added and "| Fact |" not in added
    assert summary.stat().st_size <= SUMMARY_LIMIT


def test_a_summary_that_cannot_be_written_changes_no_verdict(tmp_path):
    done = run("verify", HEALTHY, "--against", HEALTHY, env={**GITHUB, "GITHUB_STEP_SUMMARY": str(tmp_path)})
    assert done.returncode == 0 and "no summary was written" in done.stderr


def test_another_tool_s_lock_is_annotated_on_its_own_lines(tmp_path):
    lock = tmp_path / "requirements.txt"
    lock.write_text("# pinned\nnumpy==1.26.4\n")
    (tmp_path / "now.toml").write_text(
        'schema = "envlock/1"\n[python]\nversion = "3.12.3"\n[package.pip]\nnumpy = { version = "2.0.0" }\n'
    )
    done = run("verify", "requirements.txt", "--against", "now.toml", cwd=tmp_path, env=GITHUB)
    assert done.stdout.startswith("::error file=requirements.txt,line=2,title="), done.stdout + done.stderr


# ---- the GitHub Action -------------------------------------------------------------------------------


def action():
    return yaml.safe_load((TOP / "action.yml").read_text())


def test_the_action_is_composite_and_puts_no_value_into_a_script():
    found = action()
    assert set(found["inputs"]) == {"lock", "image", "args", "python-version"}
    assert all(each["description"] and isinstance(each["default"], str) for each in found["inputs"].values())
    assert found["runs"]["using"] == "composite"
    scripts = [step for step in found["runs"]["steps"] if "run" in step]
    assert scripts
    for step in scripts:
        assert step["shell"] == "bash" and "${{" not in step["run"]
    used = set(re.findall(r"inputs\.([a-z-]+)", (TOP / "action.yml").read_text()))
    assert used == set(found["inputs"])


def step(checkout, cwd, bin_folder, *, image="", lock="env.toml", args="", **environ):
    """Run the action's script with the values that its ``env`` gives it."""
    (found,) = (each for each in action()["runs"]["steps"] if "run" in each)
    values = {"github.action_path": checkout, "inputs.lock": lock, "inputs.image": image, "inputs.args": args}
    env = {
        key: str(values[re.fullmatch(r"\$\{\{ (\S+) \}\}", held)[1]]) for key, held in found["env"].items()
    }
    temp = cwd / "runner temp"
    temp.mkdir(exist_ok=True)
    return shell(
        found["run"], cwd, path=(bin_folder,), **GITHUB, **env, RUNNER_TEMP=temp, GITHUB_WORKSPACE=cwd, **environ
    )  # fmt: skip


def test_the_action_s_step_installs_itself_and_verifies_an_image(checkout, app, bin_folder):
    summary = app / "summary.md"
    fine = step(checkout, app, bin_folder, image="app.tar", GITHUB_STEP_SUMMARY=summary)
    assert (fine.returncode, fine.stdout) == (0, "Yes: it matches env.toml.\n"), fine.stderr
    drift(app / "env.toml")
    moved = step(checkout, app, bin_folder, image="app.tar", GITHUB_STEP_SUMMARY=summary)
    assert moved.returncode == 1
    assert moved.stdout.startswith("::error file=env.toml,line="), moved.stderr
    assert summary.read_text().count("### envlock") == 2
    # Further arguments are words, and hostile ones are no shell.
    marker = app / "pwned"
    hint = step(checkout, app, bin_folder, image="app.tar", args="--no-fix-hint\n --platform linux/amd64")
    assert "envlock update" not in hint.stdout and hint.returncode == 1, hint.stderr
    for evil in (f"$(touch {marker})", f"`touch {marker}`", f"; touch {marker}", "*", '"'):
        done = step(checkout, app, bin_folder, image=evil, lock=evil, args=evil)
        assert done.returncode == 2, (evil, done.stdout, done.stderr)
        assert not marker.exists()


# ---- pre-commit --------------------------------------------------------------------------------------


def git(folder, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def hooks():
    return yaml.safe_load((TOP / ".pre-commit-hooks.yaml").read_text())


def test_hooks_run_on_the_files_that_move_a_stack():
    files = {hook["id"]: re.compile(hook["files"]) for hook in hooks()}
    verify, check = files["envlock-verify"], files["envlock-check"]
    for name in (
        "env.toml", "a/env.toml", "Dockerfile", "docker/Dockerfile.train", "requirements.txt", "requirements-dev.txt",
        "requirements/base.txt", "uv.lock", "pylock.toml", "pylock.gpu.toml", "conda-lock.yml", "environment.yaml",
        "pyproject.toml",
    ):  # fmt: skip
        assert verify.search(name), name
    for name in ("train.py", "README.md", "myenv.toml", "uv.lock.bak", "notes.txt"):
        assert not verify.search(name) and not check.search(name), name


def test_pre_commit_installs_and_runs_the_hooks(checkout, tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    if importlib.util.find_spec("pre_commit") is None:
        pytest.skip("pre-commit is not installed")
    source = tmp_path / "envlock-repository"
    shutil.copytree(checkout, source)
    git(source, "init", "-q")
    git(source, "add", "-A")
    git(source, "commit", "-q", "-m", "all")
    project = tmp_path / "project"
    project.mkdir()
    git(project, "init", "-q")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", project / ".venv"], check=True)
    shutil.copy(HEALTHY, project / "env.toml")
    (project / ".gitignore").write_text(".venv\n")
    git(project, "add", "env.toml", ".gitignore")

    environ = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "GITHUB_", "PYTHON"))}
    # As where a commit is made from another folder: PWD is then not where the hook runs.
    environ |= {"PRE_COMMIT_HOME": str(tmp_path / "home"), "PWD": str(tmp_path)}

    def hook(name):
        return subprocess.run(
            [sys.executable, "-m", "pre_commit", "try-repo", str(source), name, "--ref", git(source, "rev-parse", "HEAD"),
             "--all-files", "--verbose"],
            cwd=project, env=environ, capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip

    checked = hook("envlock-check")
    if "Failed building" in checked.stdout or "No matching distribution" in checked.stdout:
        pytest.skip("no package registry can be reached")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "fine: nothing wrong was found" in checked.stdout
    # The example's lock is not the project's environment, and its own one is.
    verified = hook("envlock-verify")
    assert verified.returncode == 1 and "drift from env.toml" in verified.stdout, verified.stdout
    command = [
        sys.executable,
        "-m",
        "envlock",
        "capture",
        "--prefix",
        project / ".venv",
        "-o",
        project / "env.toml",
    ]
    subprocess.run(command, cwd=TOP, env=environ, check=True)
    again = hook("envlock-verify")
    assert again.returncode == 0 and "fine: matches env.toml" in again.stdout, again.stdout


# ---- GitLab ------------------------------------------------------------------------------------------


def test_the_gitlab_job_writes_its_reports_and_fails_with_the_drift(app, bin_folder):
    job = yaml.safe_load((EXAMPLES / "ci" / "gitlab-ci.yml").read_text())["envlock"]
    (install,) = job["before_script"]
    assert install.startswith("python -m pip install") and "envlock-stack" in install
    script = "\n".join(job["script"])
    reports = job["artifacts"]["reports"]
    for code in (0, 1):
        done = shell(script, app, path=(bin_folder,), CI_PROJECT_DIR=app, **job["variables"])
        assert done.returncode == code, done.stdout + done.stderr
        suite = ElementTree.parse(app / reports["junit"]).getroot()
        assert suite.get("failures") == str(code)
        entries = json.loads((app / reports["codequality"]).read_text())
        assert [entry["location"]["path"] for entry in entries] == ["env.toml"] * code
        assert all((app / name).exists() for name in job["artifacts"]["paths"])
        drift(app / "env.toml")
    assert "os.version  11 -> 12" in done.stdout


# ---- the workflow example ----------------------------------------------------------------------------


def test_the_workflow_example_uses_inputs_and_options_that_exist(app, bin_folder):
    workflow = yaml.safe_load((EXAMPLES / "ci" / "github-workflow.yml").read_text())
    steps = [each for job in workflow["jobs"].values() for each in job["steps"]]
    (own,) = (each for each in steps if "/envlock@" in each.get("uses", ""))
    assert set(own["with"]) <= set(action()["inputs"])
    (command,) = (each["run"] for each in steps if each.get("run", "").startswith("envlock"))
    shutil.copy(HEALTHY, app / "env.toml")
    done = shell(command, app, path=(bin_folder,))
    assert done.returncode == 0, done.stderr
    (upload,) = (each["with"] for each in steps if "upload-sarif" in each.get("uses", ""))
    assert json.loads((app / upload["sarif_file"]).read_text())["version"] == "2.1.0"
