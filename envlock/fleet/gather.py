"""Gathers the manifests of many machines: an engine's answers, checked one by one, into a store."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from envlock.errors import EnvlockError
from envlock.fleet.engines import Answer

if TYPE_CHECKING:
    from envlock.fleet.engines import Asked
    from envlock.fleet.store import Writer
    from envlock.manifest.model import Manifest


@dataclass
class Outcome:
    """How a capture stands: nodes asked for in all, and captured (before a resume too), and why others were not."""

    nodes: int = 0
    captured: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def gather(
    engine: Callable[[Asked], Iterator[Answer]],
    writer: Writer,
    *,
    time: datetime.datetime | None = None,
    progress: Callable[[Outcome], None] = lambda _: None,
) -> Outcome:
    """Write what the nodes of an engine answer into a store; a node that fails is an entry with its reason.

    Raises EnvlockError where nothing can be asked or written; what came before is in the store.
    """
    outcome = Outcome()
    waiting: set[str] = set()

    def asked(nodes: Sequence[str]) -> Sequence[str]:
        writer.ask(nodes)
        every = list(dict.fromkeys(nodes))
        waiting.update(node for node in every if node not in writer.captured)
        outcome.nodes = len(waiting | writer.captured)
        outcome.captured = len(writer.captured)
        progress(outcome)
        return [node for node in every if node in waiting]

    answers = engine(asked)
    try:
        for answer in answers:
            if answer.node not in waiting:
                continue
            waiting.remove(answer.node)
            _take(answer, writer, outcome, time)
            progress(outcome)
    finally:
        close = getattr(answers, "close", None)
        if close is not None:  # ends what still runs
            close()
    return outcome


def _take(answer: Answer, writer: Writer, outcome: Outcome, time: datetime.datetime | None) -> None:
    reason = answer.failed
    if reason is None:
        try:
            manifest = read_document(answer.output, time)
        except EnvlockError as error:
            reason = str(error)
        else:
            writer.add(answer.node, manifest)
            outcome.captured += 1
            return
    outcome.failed[answer.node] = writer.fail(answer.node, reason)


def read_document(output: bytes, time: datetime.datetime | None = None) -> Manifest:
    """Return the manifest of a node's output; raises EnvlockError.

    The probe prints one line; a login may have printed others before (a message of the day).
    """
    import envlock

    lines = [line for line in output.splitlines() if line.startswith(b"{")]
    if not lines:
        start = output[:60].decode("utf-8", "replace").strip()
        raise EnvlockError(f"printed {start!r} instead of a probe's output" if start else "printed nothing")
    try:
        document: Any = json.loads(lines[-1])
    except (ValueError, RecursionError):
        raise EnvlockError("printed a probe's output that is cut off or damaged") from None
    return envlock.from_observation(document, time=time)
