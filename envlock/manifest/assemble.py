"""A probe's document to a manifest: requirements with their markers evaluated, stable order, digests."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from envlock.errors import EnvlockError
from envlock.manifest.digest import digests
from envlock.manifest.model import SCHEMA, Manifest

DOCUMENT = "envlock-observation/1"


class ObservationError(EnvlockError):
    """A probe's document that is not one; the text says what was expected."""


def assemble(
    document: Mapping[str, Any],
    *,
    version: str,
    time: datetime.datetime | None = None,
    name: str | None = None,
) -> Manifest:
    """Return the manifest of a probe's document (see ``envlock.probe.collect``); raises ObservationError.

    ``version`` is envlock's own; ``time`` is left out for a reproducible capture.
    """
    if document.get("schema") != DOCUMENT:
        raise ObservationError(f'not a probe\'s output: expected "schema": "{DOCUMENT}"')
    facts = _clean(document.get("facts", {}))
    capture = {"envlock": version, "time": time, "source": document.get("source"), "name": name,
               "unobserved": dict(sorted(_clean(document.get("unobserved", {})).items()))}  # fmt: skip
    requires = _requires(_clean(document.get("requires_dist", {})), _clean(document.get("markers", {})))
    plain = {**_sorted(facts), "schema": SCHEMA, "capture": {k: v for k, v in capture.items() if v is not None},
             "requires": requires}  # fmt: skip
    try:
        manifest = msgspec.convert(plain, Manifest)
    except msgspec.ValidationError as error:
        raise ObservationError(f"not a probe's output: {error}") from None
    return msgspec.structs.replace(manifest, digest=digests(manifest))


def _clean(value: Any) -> Any:
    """Replace lone surrogates (bytes that are not UTF-8 in names and variables), which TOML cannot hold."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value


def _sorted(facts: dict[str, Any]) -> dict[str, Any]:
    """Bring lists and name-keyed tables into the manifest's order."""
    ordered = dict(facts)
    if "library" in ordered:
        ordered["library"] = sorted(ordered["library"], key=lambda each: (each["name"], each.get("path", "")))
    if "package" in ordered:
        ordered["package"] = {
            manager: dict(sorted(packages.items())) for manager, packages in ordered["package"].items()
        }
    for section in ("framework", "environ"):
        if section in ordered:
            ordered[section] = dict(sorted(ordered[section].items()))
    return ordered


def _requires(
    requires_dist: Mapping[str, Iterable[str]], environment: Mapping[str, str]
) -> dict[str, list[str]]:
    """Evaluate markers: what each distribution requires here, without extras, sorted and in one spelling."""
    from packaging.requirements import InvalidRequirement, Requirement

    spelled: dict[str, str | None] = {}
    environment = {**environment, "extra": ""}
    result = {}
    for name in sorted(requires_dist):
        kept = set()
        for line in requires_dist[name]:
            if line not in spelled:
                try:
                    requirement = Requirement(line)
                    applies = requirement.marker is None or requirement.marker.evaluate(environment)
                except (InvalidRequirement, ValueError, KeyError):
                    applies = False
                spelled[line] = _spell(requirement) if applies else None
            text = spelled[line]
            if text is not None:
                kept.add(text)
        if kept:
            result[name] = sorted(kept)
    return result


def _spell(requirement: Any) -> str:
    from packaging.utils import canonicalize_name

    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    url = f" @ {requirement.url}" if requirement.url else ""
    return f"{canonicalize_name(requirement.name)}{extras}{requirement.specifier}{url}"
