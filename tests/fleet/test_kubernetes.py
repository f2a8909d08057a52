"""The Kubernetes manifests fit Kubernetes' own schemas, and the logs of what they run become a fleet."""

import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from envlock.fleet.store import entries
from tests.cli.support import TOP, run

FOLDER = TOP / "examples" / "kubernetes"
MANIFESTS = ("daemonset.yaml", "job.yaml")


def manifest(name):
    return yaml.safe_load((FOLDER / name).read_text())


@pytest.mark.parametrize("name", MANIFESTS)
@pytest.mark.parametrize("version", ["1.27", "1.31", kubernetes_validate.latest_version()])
def test_the_manifest_fits_the_schema(name, version):
    kubernetes_validate.validate(manifest(name), version, strict=True)


def test_the_schema_refuses_a_misspelled_key():
    wrong = manifest("job.yaml")
    wrong["spec"]["template"]["spec"]["containers"][0]["comand"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="comand"):
        kubernetes_validate.validate(wrong, "1.31", strict=True)


@pytest.mark.parametrize("name", MANIFESTS)
def test_what_the_pod_runs_leaves_a_log_that_becomes_a_manifest(name, tmp_path):
    """The container's own command, over a probe where its volume would be mounted, without the sleep behind it."""
    assert run("probe", "-o", tmp_path / "probe.pyz").returncode == 0
    pod = manifest(name)["spec"]["template"]["spec"]
    (mount,) = pod["containers"][0]["volumeMounts"]
    shell, option, command = pod["containers"][0]["command"]
    command = command.replace(mount["mountPath"] + "/", f"{tmp_path}/").replace("; exec sleep infinity", "")
    logs = tmp_path / "logs"
    logs.mkdir()
    with (logs / "gke-pool-1.log").open("wb") as log:
        subprocess.run([shell, option, command], stdout=log, stderr=log, check=True, timeout=120)
    (logs / "gke-pool-2.log").write_text("")
    done = run("fleet", "capture", "--from", logs, "-o", tmp_path / "fleet")
    assert (done.returncode, done.stderr) == (1, "1 of 2 nodes captured\n  gke-pool-2: printed nothing\n")
    one, two = entries(str(tmp_path / "fleet"))
    assert one.load().capture.source == "live"
    assert two.failed == "printed nothing"


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_pod_is_found_by_its_label(name):
    selector = "-l app=envlock-probe"
    assert selector in Path(FOLDER / "README.md").read_text()
    assert manifest(name)["spec"]["template"]["metadata"]["labels"] == {"app": "envlock-probe"}
