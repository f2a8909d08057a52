"""A probe's document to a manifest: requirements with their markers evaluated, stable order, digests."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from envlock.errors import EnvlockError
from envlock.manifest.digest import digests
from envlock.manifest.markers import evaluate_plain
from envlock.manifest.model import SCHEMA, Manifest
from envlock.probe.redact import mask_url

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
    if not isinstance(document, dict) or document.get("schema") != DOCUMENT:
        raise ObservationError(f'not a probe\'s output: expected "schema": "{DOCUMENT}"')
    tables = ("facts", "unobserved", "requires_dist", "markers")
    if not all(isinstance(document.get(each, {}), dict) for each in tables):
        raise ObservationError(f"not a probe's output: {', '.join(tables)} must be tables")
    try:
        facts = _clean(document.get("facts", {}))
        capture = {"envlock": version, "time": time, "source": document.get("source"), "name": name,
                   "unobserved": dict(sorted(_clean(document.get("unobserved", {})).items()))}  # fmt: skip
        required = msgspec.convert(_clean(document.get("requires_dist", {})), dict[str, list[str]])
        markers = msgspec.convert(_clean(document.get("markers", {})), dict[str, str])
        requires = _requires(required, markers)
        plain = {**_sorted(facts), "schema": SCHEMA, "requires": requires,
                 "capture": {key: _clean(value) for key, value in capture.items() if value is not None}}  # fmt: skip
        manifest = msgspec.convert(plain, Manifest)
    except msgspec.ValidationError as error:
        raise ObservationError(f"not a probe's output: {error}") from None
    except RecursionError:
        raise ObservationError("not a probe's output: nested too deeply") from None
    except (AttributeError, KeyError, TypeError):
        # Only what is sorted before its types are checked: packages, libraries and frameworks.
        raise ObservationError(
            "not a probe's output: a list or table is expected where there is none"
        ) from None
    return msgspec.structs.replace(manifest, digest=digests(manifest))


def _clean(value: Any) -> Any:
    """Replace lone surrogates (bytes that are not UTF-8 in names and variables), which TOML cannot hold."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [item if isinstance(item, str) and item.isascii() else _clean(item) for item in value]
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
    for section in ("framework", "conda", "environ"):
        if section in ordered:
            ordered[section] = dict(sorted(ordered[section].items()))
    return ordered


_PLAIN = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([A-Za-z0-9._, -]+)\])?\s*\(?([~=!<>0-9][A-Za-z0-9.*+!~=<>, _-]*)?\)?\s*\Z"
)
"""A requirement by name: extras and versions, no URL; what most lines of Requires-Dist are."""


_ONLY_FOR_EXTRA = "extra =="


def _requires(
    requires_dist: Mapping[str, Iterable[str]], environment: Mapping[str, str]
) -> dict[str, list[str]]:
    """Evaluate markers: what each distribution requires here, without extras, sorted and in one spelling."""
    holds = _marker_evaluator(environment)
    spelled: dict[str, str | None] = {}
    result = {}
    for name in sorted(requires_dist):
        kept = set()
        for line in requires_dist[name]:
            if _ONLY_FOR_EXTRA in line and " or " not in line:
                # An optional requirement, as most lines are: no extra is asked for here, so a conjunction
                # that names one is false whatever else it says.
                continue
            if line not in spelled:
                spelled[line] = _spell(line, holds)
            text = spelled[line]
            if text is not None:
                kept.add(text)
        if kept:
            result[name] = sorted(kept)
    return result


def _marker_evaluator(environment: Mapping[str, str]) -> Callable[[str], bool]:
    """Return a function that tells whether a marker holds in an environment without extras."""
    known: dict[str, bool] = {}
    whole = {**environment, "extra": ""}

    def holds(marker: str) -> bool:
        if marker not in known:
            plain = evaluate_plain(marker, whole)
            if plain is not None:
                known[marker] = plain
                return plain
            from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName

            try:
                known[marker] = Marker(marker).evaluate(whole)
            except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName, ValueError, KeyError):
                known[marker] = False
        return known[marker]

    return holds


def _spell(line: str, holds: Callable[[str], bool]) -> str | None:
    """Return a requirement in the manifest's spelling; None where it is not asked for here, or is none."""
    plain, semicolon, marker = line.partition(";")
    found = _PLAIN.match(plain.strip())
    if found is None or len(line) > 2000:
        return _spell_in_full(line, holds)
    if semicolon and not holds(marker.strip()):
        return None
    name, extras, versions = found.groups()
    specifier = (
        ",".join(sorted(part.replace(" ", "") for part in versions.split(",") if part.strip()))
        if versions
        else ""
    )
    wanted = f"[{','.join(sorted(extra.strip() for extra in extras.split(',')))}]" if extras else ""
    return f"{_normalise(name)}{wanted}{specifier}"


def _spell_in_full(line: str, holds: Callable[[str], bool]) -> str | None:
    """Spell what is not plain (a URL, a marker inside a URL's fragment) through packaging's own parser."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(line)
    except (InvalidRequirement, ValueError):
        return None
    if requirement.marker is not None and not holds(str(requirement.marker)):
        return None
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    url = f" @ {mask_url(requirement.url)}" if requirement.url else ""
    return f"{_normalise(requirement.name)}{extras}{requirement.specifier}{url}"


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
