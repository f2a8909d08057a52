"""Fleets of a real Slurm: four slurmd on loopback, each a node with its own environment; broken nodes among them."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.cli.support import TOP, run
from tests.fleet.node_support import facts, stacks, strange_python
from tests.fleet.slurm_support import slurm

USUAL = ("550.90.07", "1.0")
ODD = ("550.54.14", "2.0")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: it compiles the driver's double")
    folder = tmp_path_factory.mktemp("slurm")
    most, odd = stacks(folder)
    prolog = folder / "prolog"
    exports = {
        name: "\n".join(f"echo 'export {key}={value}'" for key, value in stack.environ.items())
        for name, stack in (("most", most), ("odd", odd))
    }
    prolog.write_text(
        f"#!/bin/sh\ncase $SLURMD_NODENAME in\nnode3) {exports['odd']} ;;\n*) {exports['most']} ;;\nesac\n"
    )
    prolog.chmod(0o755)
    home = folder / "cluster"
    home.mkdir()
    with slurm(home, prolog=prolog) as running:
        yield running


def capture(cluster, path, *arguments, env=None, options=("--nodes=4",)):
    return run(
        "fleet",
        "capture",
        "--slurm",
        "-o",
        path,
        *arguments,
        "--",
        *options,
        env={**cluster.environ, **(env or {})},
    )


def test_the_odd_node_arrives_odd(cluster, tmp_path):
    done = capture(cluster, tmp_path / "fleet")
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith("4 of 4 nodes captured\n")
    assert facts(tmp_path / "fleet") == {"node1": USUAL, "node2": USUAL, "node3": ODD, "node4": USUAL}
    cluster.wait_until_idle()  # the allocation is given back


def test_inside_a_job_its_own_nodes_are_asked(cluster, tmp_path):
    command = [
        "salloc",
        "--quiet",
        "--nodelist=node[2-3]",
        sys.executable,
        "-m",
        "envlock",
        "fleet",
        "capture",
    ]
    done = subprocess.run(
        [*command, "--slurm", "-o", tmp_path / "fleet"], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, **cluster.environ, "PYTHONPATH": str(TOP)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "2 of 2 nodes captured\n")
    assert facts(tmp_path / "fleet") == {"node2": USUAL, "node3": ODD}


def test_nodes_that_hang_die_or_babble_are_lines_and_the_others_still_come(cluster, tmp_path):
    broken = strange_python(
        tmp_path / "bin",
        "case $SLURMD_NODENAME in\nnode1) sleep 600 ;;\nnode2) kill -9 $$ ;;\nnode4) exec cat /dev/zero ;;\nesac",
    )
    path = {"PATH": f"{broken}:{os.environ['PATH']}"}
    done = capture(cluster, tmp_path / "fleet", "--timeout", "20", env=path)
    assert done.returncode == 1
    found = facts(tmp_path / "fleet")
    assert found["node3"] == ODD
    assert found["node1"] == "no answer within 20 s"
    assert "Killed" in found["node2"] and "node2" in found["node2"]
    assert found["node4"] == "printed more than 16 MiB"
    cluster.wait_until_idle()  # what hung there is gone
    done = capture(cluster, tmp_path / "fleet", "--resume")
    assert done.returncode == 0 and "4 of 4" in done.stderr


def test_a_dead_node_takes_no_other_with_it(cluster, tmp_path):
    cluster.kill_node("node2")
    try:
        done = capture(cluster, tmp_path / "fleet", "--timeout", "20")
        assert done.returncode == 1, done.stderr
        found = facts(tmp_path / "fleet")
        assert (found["node1"], found["node3"], found["node4"]) == (USUAL, ODD, USUAL)
        assert "srun: error" in found["node2"] or "no answer" in found["node2"]
    finally:
        cluster.start_node("node2")
        cluster.wait_until_idle()


def test_the_tasks_of_a_step_compare_without_torch(cluster, tmp_path):
    (tmp_path / "train.py").write_text("import os\nprint('RAN', os.environ['SLURM_PROCID'])\n")

    def step(nodes):
        environ = {**os.environ, **cluster.environ, "PYTHONPATH": str(TOP)}
        command = ["srun", f"--nodelist={nodes}", sys.executable, "-m", "envlock.preflight", "train.py"]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False, env=environ
        )

    done = step("node[1-2,4]")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == ["RAN 0", "RAN 1", "RAN 2"]
    done = step("node[1-4]")
    assert done.returncode == 1 and done.stdout == ""
    headline = "differ: rank 2 on node3 differs from the 3 other ranks: driver.version 550.54.14 instead of 550.90.07"
    assert done.stderr.count(headline) == 4, done.stderr


def test_an_allocation_that_slurm_refuses_is_one_error(cluster, tmp_path):
    done = capture(cluster, tmp_path / "fleet", options=["--partition=nowhere"])
    assert done.returncode == 2
    assert "invalid partition" in done.stderr
    assert done.stderr.endswith("envlock: Slurm gave no allocation: salloc said why\n")
    assert not (tmp_path / "fleet").exists()


def test_without_slurm_the_error_says_so(tmp_path):
    done = run("fleet", "capture", "--slurm", "-o", tmp_path / "fleet", env={"PATH": "/nowhere"})
    assert done.returncode == 2
    assert "salloc cannot be run" in done.stderr
