"""``envlock fleet capture``: the manifests of many machines, through an engine that they already run."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from envlock.cli import options

if TYPE_CHECKING:
    from envlock.fleet.engines import Answer, Asked, Request
    from envlock.fleet.gather import Outcome

_FAILURES_SHOWN = 20


@click.command("capture")
@click.argument("engine_options", metavar="[-- SLURM OPTIONS]", nargs=-1, type=click.UNPROCESSED)
@click.option("--slurm", is_flag=True, help="Ask the nodes of this Slurm job, or of a new allocation.")
@click.option(
    "--ray", "address", metavar="ADDRESS", help='Ask the live nodes of a Ray cluster ("auto": this one).'
)
@click.option("--ssh", "hosts", metavar="FILE", help="Ask the hosts of a list, one a line, through OpenSSH.")
@click.option(
    "--from", "folder", metavar="DIR", help="Take what `envlock probe` printed: NODE.json or NODE.log each."
)
@click.option(
    "-o",
    "--output",
    metavar="DIR|FILE.jsonl",
    help="A folder of manifests, or one file; standard output if not given.",
)
@click.option(
    "--resume", is_flag=True, help="Go on with what is in the output already: ask only the missing nodes."
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="For each node.",
)
@click.option(
    "--parallel", metavar="N", type=click.IntRange(1, 512), default=32, show_default=True,
    help="Nodes asked at the same time.",
)  # fmt: skip
@options.environment
def command(
    engine_options: tuple[str, ...],
    slurm: bool,
    address: str | None,
    hosts: str | None,
    folder: str | None,
    output: str | None,
    resume: bool,
    timeout: float,
    parallel: int,
    python: str | None,
    prefix: str | None,
) -> None:
    """Record the stacks of many machines, through the engine that they already run.

    Nothing is installed on a node: the probe is piped to its python3 (3.8 or newer). A node that is dead, slow or
    refuses is listed with the reason. Exits with 0 where all nodes were captured, 1 where some were not.

    \b
        envlock fleet capture --slurm -o fleet -- --partition gpu --nodes 16
        envlock fleet capture --ray auto -o fleet
        envlock fleet capture --ssh hosts.txt -o fleet.jsonl --prefix /opt/env
        envlock fleet capture --from logs -o fleet     (see examples/kubernetes)
    """
    import datetime

    import envlock
    from envlock.fleet.engines import Request
    from envlock.fleet.gather import gather
    from envlock.fleet.store import Writer
    from envlock.roots.bundle import bundle

    chosen = [
        name
        for name, given in (("slurm", slurm), ("ray", address), ("ssh", hosts), ("from", folder))
        if given
    ]
    if len(chosen) != 1:
        raise click.UsageError("Name one engine: --slurm, --ray, --ssh or --from.")
    if engine_options and not slurm:
        raise click.UsageError("Options behind -- are Slurm's: they go with --slurm.")
    if folder and (python or prefix):
        raise click.UsageError("--from takes what was observed elsewhere: nothing is looked at here.")
    if resume and output in (None, "-"):
        raise click.UsageError("--resume goes on with a folder or file: name it with -o.")
    pairs = (("--python", python), ("--prefix", prefix))
    request = Request(
        bundle(envlock.__version__).encode(), tuple(part for pair in pairs if pair[1] for part in pair if part), timeout, parallel
    )  # fmt: skip
    engine = _engine(request, engine_options, address, hosts, folder)
    # One time for all: nodes with the same stack give the same file.
    time = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    with Writer(output or "-", chosen[0], resume=resume) as writer:
        outcome = gather(engine, writer, time=time, progress=_progress())
    _tell(outcome)
    if not outcome.captured:
        sys.exit(2)
    sys.exit(1 if outcome.failed else 0)


def _engine(
    request: Request,
    engine_options: tuple[str, ...],
    address: str | None,
    hosts: str | None,
    folder: str | None,
) -> Callable[[Asked], Iterator[Answer]]:
    if address:
        from envlock.fleet.engines import ray

        return functools.partial(ray.ask, request, address=address)
    if hosts:
        from envlock.fleet.engines import ssh

        return functools.partial(ssh.ask, request, hosts=options.read_text(hosts))
    if folder:
        from envlock.fleet.engines import documents

        return functools.partial(documents.ask, request, folder=folder)
    from envlock.fleet.engines import slurm

    return functools.partial(slurm.ask, request, options=engine_options)


def _progress() -> Callable[[Outcome], None]:
    """Return what shows how far a capture is: on a terminal only."""
    if not sys.stderr.isatty():
        return lambda _: None

    def show(outcome: Outcome) -> None:
        done = outcome.captured + len(outcome.failed)
        sys.stderr.write(f"\r\x1b[K{done} of {outcome.nodes} nodes, {len(outcome.failed)} failed\r")
        sys.stderr.flush()

    return show


def _tell(outcome: Outcome) -> None:
    over = "\r\x1b[K" if sys.stderr.isatty() else ""
    lines = [f"{over}{outcome.captured} of {outcome.nodes} nodes captured"]
    lines += [f"  {node}: {reason}" for node, reason in sorted(outcome.failed.items())[:_FAILURES_SHOWN]]
    more = len(outcome.failed) - _FAILURES_SHOWN
    if more > 0:
        lines.append(f"  and {more} more")
    click.echo("\n".join(lines), err=True)
