"""Runs in real local stores of MLflow and W&B: the manifest comes back as it was logged, and two runs are explained."""

import os
import subprocess
import sys

import pytest

from envlock import integrations
from envlock.errors import EnvlockError
from envlock.manifest.read import load
from tests.cli.support import EXAMPLES, TOP, run

GOOD, OLD = load(str(EXAMPLES / "train-h100.toml")), load(str(EXAMPLES / "old-driver.toml"))

MLFLOW = """
import sys, mlflow, envlock
from envlock.integrations.mlflow import log_manifest
for path in sys.argv[1:]:
    with mlflow.start_run() as run:
        if path != "none":
            log_manifest(envlock.load(path))
        tags = mlflow.MlflowClient().get_run(run.info.run_id).data.tags
        print(run.info.run_id, tags.get("envlock.driver"), tags.get("envlock.cuda"), tags.get("envlock.torch"))
"""
WANDB = """
import sys, wandb, envlock
from envlock.integrations.wandb import log_manifest
for path in sys.argv[1:]:
    run = wandb.init(mode="offline", project="p", settings=wandb.Settings(silent=True, console="off"))
    if path != "none":
        log_manifest(envlock.load(path))
    print(run.dir, dict(run.config).get("envlock", {}).get("driver"))
    run.finish()
"""
RUNS = [str(EXAMPLES / "old-driver.toml"), str(EXAMPLES / "train-h100.toml"), "none"]


def logged(code, folder, **environ):
    """Log in a process of its own, as a training script does; return its lines."""
    done = subprocess.run(
        [sys.executable, "-c", code, *RUNS], cwd=folder, capture_output=True, text=True, check=False, timeout=180,
        env={**os.environ, "PYTHONPATH": str(TOP), **environ},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines() if line.strip()]


@pytest.fixture(scope="module", params=["file", "sqlite"])
def mlflow_store(request, tmp_path_factory):
    pytest.importorskip("mlflow")
    folder = tmp_path_factory.mktemp("mlflow")
    if request.param == "sqlite":
        pytest.importorskip("sqlalchemy", reason="MLflow's sqlite store needs SQLAlchemy")
        uri = f"sqlite:///{folder}/mlflow.db"
    else:
        uri = f"file://{folder}/mlruns"
    environ = {
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    return environ, logged(MLFLOW, folder, **environ), folder


def test_two_runs_of_mlflow_are_explained(mlflow_store):
    environ, ((old, *old_tags), (good, *good_tags), (none, *no_tags)), folder = mlflow_store
    assert old_tags == ["470.256.02", "12.8", "2.9.1+cu128"] and good_tags[0] == "580.95.05"
    assert no_tags == ["None"] * 3
    done = run("diff", f"mlflow:{old}", f"mlflow:{good}", env=environ, cwd=folder)
    assert done.returncode == 1, done.stderr
    assert done.stdout == run("diff", *RUNS[:2]).stdout
    assert "cause: driver.version" in done.stdout
    if environ["MLFLOW_TRACKING_URI"].startswith("sqlite"):
        return  # what follows is the same for every store, and an import of MLflow takes seconds
    done = run("diff", f"mlflow:{none}", f"mlflow:{good}", env=environ, cwd=folder)
    assert done.returncode == 2 and f"mlflow:{none} has no envlock.toml: log one" in done.stderr
    done = run("diff", "mlflow:0123456789abcdef0123456789abcdef", f"mlflow:{good}", env=environ, cwd=folder)
    assert done.returncode == 2 and done.stderr.startswith("envlock: cannot read mlflow:0123"), done.stderr
    assert "Traceback" not in done.stderr


def test_two_offline_runs_of_wandb_are_explained(tmp_path):
    pytest.importorskip("wandb")
    (old, old_driver), (good, _), (none, _) = logged(WANDB, tmp_path, WANDB_SILENT="true")
    assert old_driver == "470.256.02"
    done = run("diff", f"wandb:{old}", f"wandb:{os.path.dirname(good)}", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stdout == run("diff", *RUNS[:2]).stdout
    done = run("diff", f"wandb:{none}", f"wandb:{good}", cwd=tmp_path)
    assert done.returncode == 2 and "has no envlock.toml: log one" in done.stderr


def test_a_wandb_run_that_is_no_folder_is_asked_of_the_server_by_its_three_names():
    for name in ("abc123", "project/abc123", "a//b", "a/b/c/d"):
        with pytest.raises(EnvlockError, match="neither a run's folder nor ENTITY/PROJECT/RUN_ID"):
            integrations.load(f"wandb:{name}")


def test_a_wandb_server_that_cannot_be_reached_is_one_sentence(tmp_path):
    pytest.importorskip("wandb")
    environ = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40, "WANDB_HTTP_TIMEOUT": "1",
               "WANDB__GRAPHQL_RETRY_MAX": "0"}  # fmt: skip
    done = run("diff", "wandb:team/project/abc123", RUNS[0], env=environ, cwd=tmp_path)
    assert done.returncode == 2 and "cannot read wandb:team/project/abc123" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and "0" * 40 not in done.stderr


@pytest.mark.parametrize(("tracker", "library"), [("mlflow:abc", "MLflow"), ("wandb:a/b/c", "wandb")])
def test_without_the_library_the_way_out_is_said(tracker, library, monkeypatch):
    monkeypatch.setitem(sys.modules, tracker.partition(":")[0], None)
    with pytest.raises(EnvlockError, match=f"{library} cannot be imported .*: pip install "):
        integrations.load(tracker)


def test_a_file_is_still_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b.toml").write_text('schema = "envlock/1"\n')
    assert integrations.load("a:b.toml") == load("a:b.toml")


def test_labels_hold_what_was_seen_and_nothing_else():
    assert integrations.labels(GOOD)["torch"] == "2.9.1+cu128"
    assert integrations.labels(GOOD)["gpu"] == "NVIDIA H100 80GB HBM3"
    assert set(integrations.labels(type(GOOD)())) == {"digest_image", "digest_machine", "digest_package"}
    same = [integrations.labels(each)["digest_image"] for each in (GOOD, OLD)]
    assert all(len(each) == 71 for each in same)
