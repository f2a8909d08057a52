"""Who says what and when: every rank's part of a preflight, and rank 0's, which asks and judges.

rank -> 0   Hello      version, node, place
0 -> all    Observers  one rank for each place
rank -> 0   Digests    of each observer's stack
0 -> all    Wanted     only if they differ: sections of one observer for each distinct stack
rank -> 0   Sections
0 -> all    Verdict    the same on every rank
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from envlock._version import __version__
from envlock.fleet.preflight import agree
from envlock.fleet.preflight.messages import (
    Digests,
    Failed,
    FromRank,
    Hello,
    Observers,
    Sections,
    Verdict,
    Wanted,
    encode,
    from_first,
    from_rank,
)
from envlock.fleet.preflight.place import node_name, place
from envlock.fleet.preflight.transport import MESSAGE_LIMIT, Transport
from envlock.manifest.model import Manifest

GRACE = 5.0
"""Seconds, or a fifth of a short limit, that rank 0 keeps to tell the others who is missing before they give up."""

NAMED = 8
"""Ranks named in one sentence at most."""


class _SilentError(Exception):
    """A rank did not do its part; the text is the whole sentence."""


def compare(transport: Transport, limit: float, until: float) -> Verdict:
    """Do this rank's part; return the verdict, which is the same on all ranks that could be reached.

    ``limit`` is the whole time in seconds, ``until`` the moment (``time.monotonic``) at which it is over.
    Raises TransportError where the connection is lost.
    """
    grace = min(GRACE, limit / 5)
    me = _Observer(until - 2 * grace)  # so that rank 0 hears why
    if transport.rank:
        verdict = _follow(transport, me, limit, until)
    else:
        verdict = _judge(transport, me, until - grace)
        transport.tell(_packed(verdict))
    # Not before all have heard it: a rank that ends takes the store, or through its launcher the others, with it.
    transport.part(min(until, time.monotonic() + grace))
    return verdict


# ---- every other rank ------------------------------------------------------------------------------------


def _follow(transport: Transport, me: _Observer, limit: float, until: float) -> Verdict:
    transport.send(_packed(me.hello()))
    while True:
        message = transport.hear(until)
        if message is None:
            return Verdict(
                "unknown",
                f"the stacks could not be compared: rank 0 gave no answer within {limit:g} s; it did not call "
                "envlock.preflight(), hangs or has ended",
            )
        order = from_first.decode(message)
        if isinstance(order, Verdict):
            return order
        if isinstance(order, Observers) and transport.rank in order.ranks:
            transport.send(_packed(me.digests()))
        elif isinstance(order, Wanted) and transport.rank in order.sections:
            transport.send(_packed(me.sections(order.sections[transport.rank])))


class _Observer:
    """This rank's own stack, looked at when it is first asked for."""

    def __init__(self, until: float) -> None:
        self._until = until
        self.manifest = Manifest()
        self.plain: dict[str, Any] = {}

    def hello(self) -> Hello:
        return Hello(__version__, node_name(), place())

    def digests(self) -> Digests | Failed:
        captured = _captured_until(self._until)
        if isinstance(captured, str):
            return Failed(captured)
        self.manifest = agree.must_agree(captured)
        self.plain = agree.sections(self.manifest)
        return Digests(agree.digests(self.plain))

    def sections(self, names: Iterable[str]) -> Sections:
        asked = {name: self.plain[name] for name in names if name in self.plain}
        return Sections(asked, self.manifest.capture.unobserved)


def _captured_until(until: float) -> Manifest | str:
    """Capture the environment of this interpreter; return why not where it failed or took too long.

    In a thread, since a file system that does not answer could hold this rank, and all others with it, for ever.
    """
    import envlock

    answers: list[Manifest | str] = []

    def capture() -> None:
        try:
            answers.append(envlock.capture(python=sys.executable))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other ranks must hear of it
            answers.append(f"its capture failed: {_redacted(f'{type(error).__name__}: {error}')}")

    thread = threading.Thread(target=capture, daemon=True, name="envlock-preflight")
    thread.start()
    thread.join(max(0.0, until - time.monotonic()))
    return answers[0] if answers else "its capture did not end in time"


def _redacted(text: str) -> str:
    import os

    from envlock.probe.redact import mask_value, strip_home

    return strip_home(mask_value("", text[:200]), os.environ.get("HOME", ""))


def _packed(message: FromRank | Observers | Wanted | Verdict) -> bytes:
    packed = encode(message)
    if len(packed) > MESSAGE_LIMIT:
        return encode(Failed(f"its stack takes {len(packed):,} bytes, more than is sent"))
    return packed


# ---- rank 0 ----------------------------------------------------------------------------------------------


def _judge(transport: Transport, me: _Observer, until: float) -> Verdict:
    """Ask all ranks, and return what their answers come to."""
    try:
        hellos = _greet(transport, me, until)
        places: dict[bytes, list[int]] = {}
        for rank, hello in sorted(hellos.items()):
            places.setdefault(hello.place, []).append(rank)
        seen_by = {rank: ranks[0] for ranks in places.values() for rank in ranks}
        observers = tuple(sorted(set(seen_by.values())))
        names = {rank: f"rank {rank} on {hellos[rank].node}" for rank in observers}
        transport.tell(_packed(Observers(observers)))
        digests = _digests(transport, me, names, until)
        if all(each == digests[0] for each in digests.values()):
            return Verdict("fine", "", observers)
        stacks = _stacks(transport, me, names, digests, until)
    except _SilentError as error:
        return Verdict("unknown", f"the stacks could not be compared: {error}")
    # Sorted as text, ranks come in their order; every rank counts, so that a majority is one of ranks.
    width = len(str(transport.size))
    ranks = {f"{rank:0{width}}": stacks[observer] for rank, observer in sorted(seen_by.items())}
    nodes = {f"{rank:0{width}}": hello.node for rank, hello in hellos.items()}
    return _explained(ranks, nodes, observers)


def _greet(transport: Transport, me: _Observer, until: float) -> dict[int, Hello]:
    others = range(1, transport.size)
    answers = _answers(transport, others, until)
    missing = [rank for rank in others if rank not in answers]
    if missing:
        raise _SilentError(
            f"{_ranks(missing)} of {transport.size} did not come in time: not started, without a call of "
            "envlock.preflight(), hanging or dead"
        )
    hellos = {0: me.hello()}
    for rank, answer in answers.items():
        if not isinstance(answer, Hello):
            raise _SilentError(f"rank {rank} runs another envlock than rank 0 ({__version__})")
        hellos[rank] = answer
    other = [rank for rank, hello in hellos.items() if hello.envlock != __version__]
    if other:
        at = hellos[other[0]]
        raise _SilentError(
            f"{_ranks(other)} ({at.node}) runs envlock {at.envlock}, rank 0 {__version__}: "
            "install the same version on all nodes"
        )
    return hellos


def _digests(
    transport: Transport, me: _Observer, names: Mapping[int, str], until: float
) -> dict[int, dict[str, bytes]]:
    """Return the digests of each observer, in order of rank."""
    mine = me.digests()
    answers: dict[int, FromRank | None] = {
        0: mine,
        **_answers(transport, [rank for rank in names if rank], until),
    }
    found = {}
    for rank in names:
        answer = answers.get(rank)
        if not isinstance(answer, Digests):
            raise _SilentError(f"{names[rank]}: {_why(answer, 'it ended or hangs in its capture')}")
        found[rank] = answer.sections
    return found


def _stacks(
    transport: Transport, me: _Observer, names: Mapping[int, str], digests: Mapping[int, dict[str, bytes]],
    until: float,
) -> dict[int, Manifest]:  # fmt: skip
    """Return each observer's stack; what equals rank 0's is not sent, and equal stacks are sent once."""
    first_with: dict[tuple[tuple[str, bytes], ...], int] = {}
    stands_for = {
        rank: first_with.setdefault(tuple(sorted(each.items())), rank) for rank, each in digests.items()
    }
    wanted = {rank: _differing(digests[0], digests[rank]) for rank in first_with.values() if rank}
    transport.tell(_packed(Wanted(wanted)))
    answers = _answers(transport, wanted, until)
    stacks = {0: me.manifest}
    for rank, differing in wanted.items():
        answer = answers.get(rank)
        if not isinstance(answer, Sections):
            raise _SilentError(
                f"{names[rank]} differs in {', '.join(differing)}, but {_why(answer, 'it ended')}"
            )
        equal = {name: value for name, value in me.plain.items() if name not in differing}
        capture = {"source": "live", "unobserved": answer.unobserved}
        try:
            stacks[rank] = msgspec.convert({**equal, **answer.sections, "capture": capture}, Manifest)
        except msgspec.ValidationError as error:
            raise _SilentError(f"{names[rank]} sent sections that cannot be read: {error}") from None
    return {rank: stacks[representative] for rank, representative in stands_for.items()}


def _differing(mine: Mapping[str, bytes], theirs: Mapping[str, bytes]) -> tuple[str, ...]:
    return tuple(sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)))


def _answers(transport: Transport, ranks: Iterable[int], until: float) -> dict[int, FromRank | None]:
    """Collect the next word of each rank; None is one that cannot be read."""
    found: dict[int, FromRank | None] = {}
    for rank, message in transport.collect(ranks, until).items():
        try:
            found[rank] = from_rank.decode(message)
        except msgspec.DecodeError:
            found[rank] = None
    return found


def _why(answer: FromRank | None, silence: str) -> str:
    return answer.reason if isinstance(answer, Failed) else silence


def _ranks(ranks: list[int]) -> str:
    named = ", ".join(map(str, ranks[:NAMED]))
    more = f" and {len(ranks) - NAMED} more" if len(ranks) > NAMED else ""
    return f"rank{'s' if len(ranks) > 1 else ''} {named}{more}"


def _explained(
    stacks: Mapping[str, Manifest], nodes: Mapping[str, str], observers: tuple[int, ...]
) -> Verdict:
    """Name the odd one out and what sets it apart; what only one side could see sets nobody apart."""
    from envlock.compare.groups import group
    from envlock.matrix.loader import load, project_files
    from envlock.reports import preflight_text

    grouping = group(list(stacks.items()), load(project_files("")))
    if grouping.verdict == "fine":
        return Verdict("fine", "", observers)
    return Verdict("problem", preflight_text.explanation(grouping, nodes), observers)
