"""The preflight inside a job: do all ranks run the same stack, and if not, which one is the odd one out?

Ranks that see the same machine in the same way let the lowest of them capture. Each capture becomes 32-byte digests,
which rank 0 compares; only where they differ it asks for the sections, once for each distinct stack. All ranks end
with its verdict. Every wait has the same time limit, so that a rank which is dead, hangs or never calls costs the
others no more than that.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import Literal

from envlock.errors import EnvlockError

__all__ = [
    "TIME_LIMIT",
    "Outcome",
    "PreflightError",
    "PreflightWarning",
    "StacksDifferError",
    "look",
    "preflight",
]

TIME_LIMIT = 120.0
"""Seconds: ranks of one job start at very different moments where a shared file system is cold."""


class PreflightError(EnvlockError):
    """The stacks of the ranks could not be compared; the text says which rank is missing, and why."""


class StacksDifferError(EnvlockError):
    """The ranks of this job do not run the same stack; the text names the odd one, and what it differs in."""


class PreflightWarning(UserWarning):
    """What would have been one of the two errors, had the job not been told to go on."""


@dataclass(frozen=True)
class Outcome:
    """What a preflight comes to: verdict and message are the same on all ranks."""

    verdict: Literal["fine", "problem", "unknown"]
    """"problem" where stacks differ, "unknown" where they could not be compared."""
    message: str = ""
    """The explanation: one sentence, and below it what sets each group of ranks apart; empty where all is fine."""
    rank: int = 0
    observers: tuple[int, ...] = ()
    """Ranks that captured, each for all ranks that see the same machine as it does; empty for a single process."""

    @property
    def told_here(self) -> str:
        """The whole message on ranks that captured, on the others its first sentence: once a node is enough."""
        return (
            self.message if not self.observers or self.rank in self.observers else self.message.split("\n")[0]
        )


def preflight(*, on_difference: Literal["stop", "warn"] = "stop", timeout: float = TIME_LIMIT) -> Outcome:
    """Compare the stacks of all ranks of this job; see ``envlock.preflight``."""
    if on_difference not in ("stop", "warn"):
        raise ValueError(f'on_difference is {on_difference!r}: "stop" or "warn" is expected')
    outcome = look(timeout)
    if outcome.verdict == "fine":
        return outcome
    if on_difference == "warn":
        warnings.warn(outcome.told_here, PreflightWarning, stacklevel=3)
        return outcome
    raise (StacksDifferError if outcome.verdict == "problem" else PreflightError)(outcome.message)


def look(timeout: float) -> Outcome:
    """Compare the stacks of all ranks within so many seconds; neither raises nor warns."""
    from envlock.fleet.preflight.talk import compare
    from envlock.fleet.preflight.transport import TransportError, find_transport

    until = time.monotonic() + timeout
    rank = 0
    try:
        transport = find_transport(until)
        if transport is None:
            return Outcome("fine")
        rank = transport.rank
        verdict = compare(transport, timeout, until)
    except TransportError as error:
        return Outcome("unknown", f"the stacks could not be compared: {error}", rank)
    return Outcome(verdict.verdict, verdict.message, rank, verdict.observers)
