"""``-m envlock.preflight`` as launchers start it: torchrun, mpirun, and nothing at all; then the script runs as always."""

import importlib.util
import json
import re
import shutil
import sys

import pytest

from tests.fleet.job_support import GOOD, OLD, TOP, driver_double, job_prefix, needs_gcc, run_job
from tests.packages_support import pip, wheel

SHOW = """
import json, sys
def where(): pass
print(json.dumps([sys.argv, __name__, __file__, sys.path[0], str(__spec__ and __spec__.name), where.__module__,
                  sys.modules["__main__"].__dict__.get("where") is where]))
sys.exit(int(sys.argv[-1]))
"""
TRAIN = """
import sys, torch, torch.distributed as dist
if __name__ == "__main__":
    dist.init_process_group("gloo")
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
    model(torch.ones(2, 4)).sum().backward()
    one = torch.ones(1)
    dist.all_reduce(one)
    sys.stdout.write(f"TRAINED {dist.get_rank()} {one.item():g} {sys.argv[1:]}\\n")
    dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def job(cpu_torch, tmp_path_factory):
    """Two prefixes that differ in one package, a double of the driver, and a training script."""
    folder = tmp_path_factory.mktemp("job")
    for name, version in (("mine", "1.0"), ("other", "2.0")):
        prefix = job_prefix(folder / name, cpu_torch)
        pip(prefix, "install", "-q", "--no-index", wheel(folder / "wheels", "acme", version))
    (folder / "train.py").write_text(TRAIN)
    return folder


def rank_script(folder, odd, variable, *, prefix="mine", environ=None):
    """Write what a launcher starts on each rank: the odd one has its own prefix or its own variables."""
    lines = ["#!/bin/sh", f"python={folder}/mine/bin/python"]
    lines += [f"if [ ${variable} = {odd} ]; then", f"  python={folder}/{prefix}/bin/python"]
    lines += [f'  export {name}="{value}"' for name, value in (environ or {}).items()]
    lines += ["fi", 'exec "$python" -m envlock.preflight "$@"']
    script = folder / f"rank-{prefix}-{variable}.sh"
    script.write_text("\n".join(lines) + "\n")
    script.chmod(0o755)
    return script


def torchrun(job, ranks, *arguments):
    return run_job(
        [job / "mine/bin/python", "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", *arguments], job
    )


def test_two_equal_ranks_of_torchrun_train_as_without_it(job):
    done = torchrun(job, 2, "-m", "envlock.preflight", "train.py", "--epochs", "3")
    assert done.returncode == 0, done.stderr
    trained = sorted(line for line in done.stdout.splitlines() if line.startswith("TRAINED"))
    assert trained == [f"TRAINED {rank} 2 ['--epochs', '3']" for rank in range(2)]
    assert "envlock" not in done.stderr


def test_one_of_four_ranks_with_its_own_prefix_is_named_on_all(job):
    script = rank_script(job, 3, "RANK", prefix="other")
    done = torchrun(job, 4, "--no-python", script, "train.py")
    assert done.returncode == 1
    assert "TRAINED" not in done.stdout
    headlines = {line for line in done.stderr.splitlines() if line.startswith("envlock preflight: ")}
    (headline,) = headlines
    assert "differ: rank 3 on " in headline and "differs from the 3 other ranks" in headline
    assert done.stderr.count(headline) == 4
    assert re.search(r"package\.pip\.acme  1\.0 .* -> 2\.0 ", done.stderr)


@needs_gcc()
def test_told_to_warn_the_job_trains(job):
    environ = {**driver_double(job / "driver"), **GOOD}
    script = rank_script(job, 1, "RANK", environ=OLD)
    command = [
        job / "mine/bin/python",
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--no-python",
        script,
    ]
    done = run_job([*command, "--warn", "train.py"], job, **environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("TRAINED") == 2
    assert "envlock preflight: warning: the stacks of this job differ" in done.stderr
    assert "driver.version 470.256.02 instead of 580.95.05" in done.stderr


def test_ranks_of_mpi_compare_over_mpi(job):
    mpirun = shutil.which("mpirun")
    if mpirun is None:
        pytest.skip("no mpirun: Debian's openmpi-bin brings one")
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip("mpi4py is not installed")
    (job / "mpi.py").write_text("from mpi4py import MPI\nprint('SUM', MPI.COMM_WORLD.allreduce(1))\n")
    command = [mpirun, "--allow-run-as-root", "--oversubscribe", "-n", "3"]
    python = job / "mine/bin/python"
    done = run_job([*command, python, "-m", "envlock.preflight", "mpi.py"], job)
    assert done.returncode == 0 and done.stdout.count("SUM 3") == 3, done.stderr
    script = rank_script(job, 2, "OMPI_COMM_WORLD_RANK", prefix="other")
    done = run_job([*command, script, "mpi.py"], job)
    assert done.returncode == 1 and "SUM" not in done.stdout
    assert "differ: rank 2 on " in done.stderr
    assert re.search(r"package\.pip\.acme  1\.0 .* -> 2\.0 ", done.stderr)
    # The library, in a program that is late on one rank and has its own messages under way.
    (job / "late.py").write_text(
        "from mpi4py import MPI\nimport envlock, time\nworld = MPI.COMM_WORLD\n"
        "if world.rank == 1: time.sleep(6)\n"
        "print('SAID', envlock.preflight(timeout=3, on_difference='warn').message)\n"
        "print('SUM', world.allreduce(1))\n"
    )
    done = run_job([*command, python, "-W", "ignore", "late.py"], job)
    assert done.returncode == 0 and done.stdout.count("SUM 3") == 3, done.stderr
    assert done.stdout.count("rank 1 of 3 did not come in time") == 3


# ---- a process on its own: how the script is run -----------------------------------------------------------


def alone(folder, *arguments, python=(sys.executable,)):
    return run_job([*python, *arguments], folder, PYTHONPATH=str(TOP))


def test_a_script_sees_what_it_sees_without(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/show.py").write_text(SHOW)
    (tmp_path / "link.py").symlink_to("sub/show.py")
    for script in ("sub/show.py", str(tmp_path / "sub/show.py"), "link.py"):
        without = alone(tmp_path, script, "--warn", "-m", "7")
        within = alone(tmp_path, "-m", "envlock.preflight", "--timeout", "9", script, "--warn", "-m", "7")
        assert json.loads(within.stdout) == json.loads(without.stdout)
        assert within.returncode == without.returncode == 7


def test_a_module_sees_what_it_sees_without(tmp_path):
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme/__init__.py").touch()
    (tmp_path / "acme/show.py").write_text(SHOW)
    without = alone(tmp_path, "-m", "acme.show", "x", "0")
    within = alone(tmp_path, "-m", "envlock.preflight", "-m", "acme.show", "x", "0")
    assert json.loads(within.stdout) == json.loads(without.stdout)
    assert within.returncode == without.returncode == 0


def test_an_error_of_the_script_is_the_scripts_own(tmp_path):
    (tmp_path / "bad.py").write_text("import click\nraise click.ClickException('mine')\n")
    done = alone(tmp_path, "-m", "envlock.preflight", "bad.py")
    assert done.returncode == 1 and "click.exceptions.ClickException: mine" in done.stderr


def test_what_is_wrong_with_the_command_is_said_before_anything_runs(tmp_path):
    done = alone(tmp_path, "-m", "envlock.preflight", "none.py")
    assert done.returncode == 2 and "there is no script none.py" in done.stderr
    done = alone(tmp_path, "-m", "envlock.preflight")
    assert done.returncode == 2 and "SCRIPT|MODULE" in done.stderr
    done = alone(tmp_path, "-m", "envlock.preflight", "--help")
    assert done.returncode == 0 and "torchrun" in done.stdout


def test_ranks_that_cannot_be_reached_stop_the_script_unless_told_to_warn(tmp_path):
    (tmp_path / "show.py").write_text("print('RAN')")
    lost = {"PYTHONPATH": str(TOP), "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "envlock.preflight"]
    done = run_job([*command, "show.py"], tmp_path, **lost)
    assert done.returncode == 2 and "RAN" not in done.stdout and "MASTER_ADDR" in done.stderr
    done = run_job([*command, "--warn", "show.py"], tmp_path, **lost)
    assert done.returncode == 0 and "RAN" in done.stdout and "MASTER_ADDR" in done.stderr
