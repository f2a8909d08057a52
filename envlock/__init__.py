"""envlock records the whole stack under a GPU program, checks it, and names the difference that breaks it.

The library is these functions; everything else is imported when one of them needs it::

    manifest = envlock.capture()
    result = envlock.check(manifest)
    difference = envlock.diff(envlock.load("mine.toml"), envlock.load("theirs.toml"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envlock._version import __version__

__all__ = [
    "__version__",
    "capture",
    "check",
    "diff",
    "from_observation",
    "from_report",
    "load",
    "preflight",
    "verify",
    "which",
]

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable, Sequence
    from typing import Literal

    from envlock.compare.engine import Difference
    from envlock.fleet.preflight import Outcome
    from envlock.locks.policy import Verification
    from envlock.manifest.model import Manifest
    from envlock.probe.libraries import Which
    from envlock.probe.root import Root
    from envlock.rules.model import Result


def capture(
    root: Root | None = None,
    *,
    python: str | None = None,
    prefix: str | None = None,
    name: str | None = None,
    time: datetime.datetime | None = None,
    all_system_packages: bool = False,
    deep: bool = False,
    fork: bool = False,
) -> Manifest:
    """Record a stack: of this machine, or of the root given.

    ``python`` (an executable) or ``prefix`` (a venv or conda prefix) choose the environment instead of
    VIRTUAL_ENV, CONDA_PREFIX and PATH; ``time`` is recorded if given; ``name`` is a label; ``deep`` compares
    every installed file with its package's record; ``fork`` lets a child process look at half of it, which is
    for programs without threads or a GPU in use. Raises EnvlockError when the named environment is not there.
    """
    from envlock.errors import EnvlockError
    from envlock.probe.collect import start
    from envlock.probe.target import TargetError
    from envlock.roots.live import LiveRoot

    try:
        fetch = start(
            root or LiveRoot(), python, prefix, everything=all_system_packages, deep=deep, fork=fork
        )
    except TargetError as error:
        raise EnvlockError(str(error)) from None
    # Imported while a child looks.
    from envlock.manifest.assemble import assemble

    return assemble(fetch(), version=__version__, time=time, name=name)


def from_observation(
    document: Any, *, name: str | None = None, time: datetime.datetime | None = None
) -> Manifest:
    """Turn what the travelling probe printed (`envlock probe`) into a manifest; raises EnvlockError."""
    from envlock.manifest.assemble import assemble

    return assemble(document, version=__version__, time=time, name=name)


def from_report(text: str) -> Manifest:
    """Read what people paste (collect_env, pip freeze, nvidia-smi ...) into a manifest; raises EnvlockError."""
    import msgspec

    from envlock.imports import read_report
    from envlock.manifest.model import Manifest

    return msgspec.convert(read_report(text), Manifest)


def load(path: str) -> Manifest:
    """Read a manifest from a TOML file; "-" is standard input. Raises EnvlockError."""
    from envlock.manifest.read import load as read

    return read(path)


def check(manifest: Manifest, *, matrix: Sequence[str] = (), rare: bool = True) -> Result:
    """Say whether a stack can work; ``matrix`` names TOML files with further or changed rows.

    Without ``rare`` no fixes are tried for known defects of rare uses, which are not shown unless asked for.
    """
    from envlock.matrix.loader import load as load_matrix
    from envlock.rules.engine import run

    return run(manifest, load_matrix(matrix), rare=rare)


def diff(
    mine: Manifest, theirs: Manifest, *, bad: str | None = None, log: str | Iterable[str] | None = None,
    matrix: Sequence[str] = (),
) -> Difference:  # fmt: skip
    """Say what differs between two stacks and which difference is to blame, best first.

    ``bad`` is "mine" or "theirs" where it is known which one fails; ``log`` is the text of its error.
    """
    from envlock.compare.engine import compare
    from envlock.matrix.loader import load as load_matrix

    return compare(mine, theirs, load_matrix(matrix), bad=bad, log=log)


def verify(lock: Manifest, current: Manifest, *, matrix: Sequence[str] = ()) -> Verification:
    """Say whether a stack still matches its lock: image facts match, machine facts satisfy."""
    from envlock.locks.policy import verify as run
    from envlock.matrix.loader import load as load_matrix

    return run(lock, current, load_matrix(matrix))


def preflight(*, on_difference: Literal["stop", "warn"] = "stop", timeout: float = 120.0) -> Outcome:
    """Say on every rank of a job whether all ranks run the same stack; call it on all of them, before training.

    The ranks compare digests over what is there already: a process group of torch, mpi4py, or what torchrun, an MPI
    launcher or a Slurm step have set in the environment; a process on its own is always fine. Raises
    StacksDifferError, with the same text on all ranks, which names the odd one out, and PreflightError where the
    stacks could not be compared within ``timeout`` seconds; with ``on_difference="warn"`` both are warnings.
    """
    from envlock.fleet.preflight import preflight as run

    return run(on_difference=on_difference, timeout=timeout)


def which(
    library: str, *, framework: str | None = None, root: Root | None = None, python: str | None = None,
    prefix: str | None = None,
) -> Which:  # fmt: skip
    """Return every copy of a native library ("cudnn", or a soname) and which one each framework would load."""
    from envlock.errors import EnvlockError
    from envlock.probe.libraries import which as find
    from envlock.probe.target import TargetError, find_target
    from envlock.roots.live import LiveRoot

    place = root or LiveRoot()
    try:
        return find(place, find_target(place, python, prefix), library, framework)
    except TargetError as error:
        raise EnvlockError(str(error)) from None
