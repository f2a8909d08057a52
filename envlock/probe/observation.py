"""What a probe hands back: facts in the shape of the manifest, and what it could not see, with the reason."""

from typing import Any, Dict, Iterable


class Observation:
    """Facts and their gaps.

    ``facts`` is a part of a manifest as plain values, e.g. ``{"driver": {"version": "570.86.15"}}``;
    ``unobserved`` maps a fact's address to why it could not be seen. What is in neither was looked
    for and is not there.
    """

    __slots__ = ("facts", "unobserved")

    def __init__(self) -> None:
        self.facts: Dict[str, Any] = {}
        self.unobserved: Dict[str, str] = {}

    def table(self, *keys: str) -> Dict[str, Any]:
        """Return the table at these keys, made if it is not there yet."""
        table = self.facts
        for key in keys:
            table = table.setdefault(key, {})
        return table


def merge(observations: Iterable[Observation]) -> Observation:
    """Unite what several probes saw: tables key by key, lists end to end, the first word on a scalar wins."""
    whole = Observation()
    for observation in observations:
        _unite(whole.facts, observation.facts)
        for address, reason in observation.unobserved.items():
            whole.unobserved.setdefault(address, reason)
    return whole


def _unite(into: Dict[str, Any], more: Dict[str, Any]) -> None:
    for key, value in more.items():
        held = into.get(key)
        if isinstance(held, dict) and isinstance(value, dict):
            _unite(held, value)
        elif isinstance(held, list) and isinstance(value, list):
            held.extend(value)
        elif held is None:
            into[key] = value
