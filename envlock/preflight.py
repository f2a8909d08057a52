"""``torchrun -m envlock.preflight train.py``: compare the stacks of all ranks, then run the script.

The module can be called as well: importing it puts it in the place of the function ``envlock.preflight``.
"""

from __future__ import annotations

import os
import sys
import types
from typing import Any, NamedTuple

import click

from envlock.fleet.preflight import (
    TIME_LIMIT,
    Outcome,
    PreflightError,
    PreflightWarning,
    StacksDifferError,
    preflight,
)

__all__ = ["Outcome", "PreflightError", "PreflightWarning", "StacksDifferError", "preflight"]


class _CallableModule(types.ModuleType):
    """A module that stands for its function."""

    def __call__(self, **options: Any) -> Outcome:
        return preflight(**options)


class _Job(NamedTuple):
    """What the command line asks for."""

    warn: bool
    timeout: float
    as_module: bool
    script: str
    arguments: tuple[str, ...]


@click.command(
    "preflight", context_settings={"allow_interspersed_args": False, "help_option_names": ["-h", "--help"]}
)
@click.option("--warn", is_flag=True, help="Warn and go on where the stacks differ or could not be compared.")
@click.option(
    "--timeout", type=click.FloatRange(min=1), default=TIME_LIMIT, show_default=True, metavar="SECONDS",
    help="How long to wait for the other ranks at most.",
)  # fmt: skip
@click.option("-m", "as_module", is_flag=True, help="What follows is a module, as with python -m.")
@click.argument("script", metavar="SCRIPT|MODULE")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(**options: Any) -> _Job:
    """Compare the stacks of all ranks of a job, then run the script as if it had been started itself.

    For torchrun, MPI launchers and srun: torchrun --nproc-per-node 8 -m envlock.preflight train.py --epochs 3.
    Exits with 1 where the stacks differ, with 2 where they could not be compared in time.
    """
    job = _Job(**options)
    if not job.as_module and not os.path.exists(job.script):
        raise click.UsageError(f"there is no script {job.script}.")
    return job


def main() -> None:
    """Parse, compare, and hand this process over to the script."""
    try:
        job = command.main(prog_name="python -m envlock.preflight", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    if not isinstance(job, _Job):  # --help has printed what it had to
        sys.exit(0)
    outcome = _compared(job.timeout)
    if outcome.verdict != "fine":
        # In one piece: ranks share their launcher's output.
        sys.stderr.write(
            f"envlock preflight: {'warning: ' if job.warn else ''}{outcome.told_here.rstrip()}\n"
        )
        sys.stderr.flush()
        if not job.warn:
            sys.exit(1 if outcome.verdict == "problem" else 2)
    from envlock.fleet.preflight.script import run_module, run_script

    (run_module if job.as_module else run_script)(job.script, job.arguments)


def _compared(timeout: float) -> Outcome:
    from envlock.fleet.preflight import look

    try:
        return look(timeout)
    except KeyboardInterrupt:
        sys.stderr.write("envlock preflight: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
else:
    sys.modules[__name__].__class__ = _CallableModule
