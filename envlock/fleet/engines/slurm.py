"""Nodes of a Slurm job: one ``srun`` a node, so that a dead or refusing one takes no other with it.

Inside a job its own nodes are asked. Outside, ``salloc`` gets an allocation for as long as the capture takes.
(One ``srun`` over all nodes is aborted as a whole when a single slurmd does not answer.)
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence

from envlock.errors import EnvlockError
from envlock.fleet.engines import Answer, Asked, Request
from envlock.fleet.engines.processes import ask_each

_ONE_TASK = ("--nodes=1", "--ntasks=1", "--ntasks-per-node=1", "--overlap")


def ask(request: Request, asked: Asked, options: Sequence[str] = ()) -> Iterator[Answer]:
    """Ask every node of the job that this runs in, or of a new allocation; raises EnvlockError.

    ``options`` go to srun inside a job (``--gpus-per-node``, ``--container-image``), and to salloc outside of
    one (``--partition``, ``--nodes``).
    """
    inside = "SLURM_JOB_ID" in os.environ and "SLURM_JOB_NODELIST" in os.environ
    with contextlib.nullcontext(_current()) if inside else _allocation(options) as (job, nodes):
        step = ["srun", f"--jobid={job}", *(options if inside else ()), *_ONE_TASK]

        def command(node: str) -> list[str]:
            return [*step, f"--nodelist={node}", "python3", "-", *request.arguments]

        yield from ask_each(request, asked(nodes), command)


def _current() -> tuple[str, list[str]]:
    return os.environ["SLURM_JOB_ID"], _names(os.environ["SLURM_JOB_NODELIST"])


@contextlib.contextmanager
def _allocation(options: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Hold an allocation; it is released when this process ends, however it ends: its shell reads from us."""
    hold = ["sh", "-c", 'echo "$SLURM_JOB_ID" "$SLURM_JOB_NODELIST"; exec cat >/dev/null']
    try:
        process = subprocess.Popen(
            ["salloc", "--no-kill", *options, *hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    except OSError as error:
        raise EnvlockError(
            f"salloc cannot be run: {error.strerror or error}; --slurm needs Slurm's commands"
        ) from None
    with process:
        assert process.stdin is not None and process.stdout is not None
        try:
            job, _, nodes = process.stdout.readline(1 << 20).strip().partition(" ")
            if not nodes:
                raise EnvlockError("Slurm gave no allocation: salloc said why")
            yield job, _names(nodes)
        finally:
            process.stdin.close()


def _names(nodes: str) -> list[str]:
    """Expand a node list (``node[01-04,07]``) with Slurm's own command."""
    try:
        done = subprocess.run(
            ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EnvlockError(f"scontrol cannot expand the list of nodes: {error}") from None
    return done.stdout.split()
