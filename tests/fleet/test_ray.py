"""Fleets of a real Ray cluster of three nodes on this machine, one of them odd; a node that hangs, one that dies."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings

import pytest

from envlock.fleet.engines.ray import named
from envlock.fleet.store import entries
from tests.cli.support import TOP, run
from tests.fleet.node_support import GPU
from tests.nvml_double.build import build_libcuda, build_nvml
from tests.packages_support import dist_info, write
from tests.ssh_support import free_port

USUAL, ODD = ("550.90.07", "1.0"), ("550.54.14", "2.0")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Start a head and two nodes, each a raylet with its own variables."""
    pytest.importorskip("ray", reason="ray is not installed (it has no wheel for every Python)")
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: it compiles the driver's double")
    folder = tmp_path_factory.mktemp("ray")
    build_nvml(folder / "doubles")
    build_libcuda(folder / "doubles")
    # jsonschema imports this if it is there, which takes seconds in each of Ray's processes: here it is not.
    write(folder / "without", {"rfc3987_syntax.py": "raise ImportError\n"})
    environs = {}
    for name, (driver, package) in (("most", USUAL), ("odd", ODD)):
        write(folder / name, dist_info("alpha", package, {"alpha.py": ""}))
        environs[name] = {
            "PYTHONPATH": f"{folder / 'without'}:{folder / name}", "LD_LIBRARY_PATH": str(folder / "doubles"),
            "DOUBLE_DRIVER": driver, "DOUBLE_CUDA": "12040", "DOUBLE_GPUS": GPU,
        }  # fmt: skip
    sessions = tempfile.mkdtemp(prefix="ray-")  # short: Ray's sockets lie below it
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder / "without"))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_TMPDIR", sessions)
        patch.setenv("RAY_raylet_start_wait_time_s", "120")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's own, on a Python newer than it
            from ray.cluster_utils import Cluster

        settings = {
            "num_cpus": 1,
            "include_dashboard": False,
            "object_store_memory": 80 << 20,
        }
        running = Cluster()
        try:
            # A dead node is missed after five failed checks; a slow one still has ten seconds for each.
            patient = {"health_check_period_ms": 500}
            running.mine = [
                running.add_node(
                    env_vars=environs["most"], node_name="head", _system_config=patient, **settings
                ),
                running.add_node(env_vars=environs["most"], node_name="second", **settings),
                running.add_node(env_vars=environs["odd"], node_name="third", **settings),
            ]
        except Exception as error:  # noqa: BLE001 - whatever Ray cannot do here, with its own words
            running.shutdown()
            pytest.skip(f"Ray does not start here: {error}")
        yield running
        running.shutdown()
        shutil.rmtree(sessions, ignore_errors=True)


def facts(path):
    """Return of each node its driver and package, or why there is no manifest, by the beginning of its id."""
    found = {}
    for entry in entries(str(path)):
        told = entry.failed
        if told is None:
            manifest = entry.load()
            assert "CUDA_VISIBLE_DEVICES" not in manifest.environ  # Ray's own doing, for a task without GPUs
            told = (manifest.driver.version, manifest.package.pip["alpha"].version)
        found[entry.node.rpartition("-")[2]] = told
    return found


def capture(cluster, path, *arguments):
    return run("fleet", "capture", "--ray", cluster.address, "-o", path, *arguments)


def started(cluster, path, *arguments):
    command = ["fleet", "capture", "--ray", cluster.address, "-o", path, *arguments]
    return subprocess.Popen(
        [sys.executable, "-m", "envlock", *command], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(TOP)},
    )  # fmt: skip


def identities(cluster):
    return [node.node_id[:8] for node in cluster.mine]


def raylet(node):
    return node.all_processes["raylet"][0].process.pid


def test_the_odd_node_arrives_odd(cluster, tmp_path):
    done = capture(cluster, tmp_path / "fleet.jsonl")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "3 of 3 nodes captured\n")
    assert facts(tmp_path / "fleet.jsonl") == dict(zip(identities(cluster), (USUAL, USUAL, ODD), strict=True))


def test_the_environment_asked_for_is_what_is_captured(cluster, tmp_path):
    done = capture(cluster, tmp_path / "fleet", "--prefix", tmp_path / "nothing")
    assert done.returncode == 2
    assert all(str(tmp_path / "nothing") in told for told in facts(tmp_path / "fleet").values())


def test_a_node_that_hangs_or_dies_is_a_line_and_the_others_still_come(cluster, tmp_path):
    head, second, odd = identities(cluster)
    node = cluster.mine[1]
    os.kill(raylet(node), signal.SIGSTOP)
    try:
        # Enough for new workers of the others on a busy machine: they import Ray first.
        done = capture(cluster, tmp_path / "hung", "--timeout", "20")
    finally:
        os.kill(raylet(node), signal.SIGCONT)
    assert done.returncode == 1, done.stderr
    assert facts(tmp_path / "hung") == {head: USUAL, second: "no answer within 20 s", odd: ODD}

    os.kill(raylet(node), signal.SIGSTOP)
    path = tmp_path / "died"
    patient = started(cluster, path)
    for _ in range(600):
        if len(list(path.glob("*.toml"))) == 2:
            break
        time.sleep(0.1)
    os.kill(raylet(node), signal.SIGKILL)
    _, errors = patient.communicate(timeout=100)
    assert patient.returncode == 1, errors
    found = facts(path)
    assert (found[head], found[odd]) == (USUAL, ODD)
    assert isinstance(found[second], str) and found[second] in errors

    done = capture(cluster, tmp_path / "dead")  # of a node that Ray has given up
    assert done.returncode == 1, done.stderr
    found = facts(tmp_path / "dead")
    assert (found[head], found[odd]) == (USUAL, ODD)
    assert found[second].startswith("dead: ") and "health check failed" in found[second]


def test_a_cluster_that_is_not_there_is_one_error(tmp_path):
    address = f"127.0.0.1:{free_port()}"
    done = run("fleet", "capture", "--ray", address, "-o", tmp_path / "fleet")
    assert (done.returncode, done.stderr) == (
        2,
        f"envlock: cannot reach Ray at {address}: Connection refused\n",
    )
    assert not (tmp_path / "fleet").exists()


def test_without_ray_the_error_says_so(tmp_path):
    write(tmp_path, {"ray.py": "raise ImportError\n"})
    done = run("fleet", "capture", "--ray", "auto", env={"PYTHONPATH": f"{tmp_path}:{TOP}"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "--ray needs Ray beside envlock" in done.stderr


def node(identity, host, name="", **state):
    return {"Alive": True, "NodeID": identity * 8, "NodeManagerHostname": host, "NodeName": name, **state}


def test_nodes_that_share_a_host_are_told_apart():
    nodes = [node("a", "a"), node("b", "b"), node("c", "b")]
    assert list(named(nodes)) == ["a", "b-bbbbbbbb", "b-cccccccc"]


def test_only_nodes_that_ray_lost_are_missed():
    lost = {"Alive": False, "DeathReason": 2}
    nodes = [
        node("a", "a"),
        node("b", "b", **lost),
        node("c", "c", **lost),
        node("d", "c", **lost),  # died twice
        node("e", "a", **lost),  # is back under another id
        node("f", "f", Alive=False, DeathReason=1),  # was stopped
        node("1", "g", Alive=False, DeathReason=4),  # was idle
    ]
    assert {name: each["NodeID"][0] for name, each in named(nodes).items()} == {"a": "a", "b": "b", "c": "d"}
