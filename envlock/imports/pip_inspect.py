"""pip inspect: JSON with every distribution's metadata and the interpreter's markers.

Source of the format: pip's documentation, "pip inspect JSON output specification", version 1.
"""

from __future__ import annotations

import json
from typing import Any

from envlock.imports import facts as f
from envlock.imports.pip_freeze import remote


def holds(value: Any) -> bool:
    """Tell whether a JSON document is pip inspect's."""
    return isinstance(value, dict) and isinstance(value.get("installed"), list) and "pip_version" in value


def parse(lines: list[str]) -> f.Facts:
    """Read distributions, their requirements and the interpreter."""
    value = json.loads("\n".join(lines))
    facts: f.Facts = {}
    environment = value.get("environment")
    environment = environment if isinstance(environment, dict) else {}
    markers = {key: text for key, text in environment.items() if isinstance(text, str)}
    _interpreter(facts, markers)
    for item in value["installed"]:
        if isinstance(item, dict) and isinstance(item.get("metadata"), dict):
            _distribution(facts, item, markers)
    return facts


def _interpreter(facts: f.Facts, markers: dict[str, str]) -> None:
    f.python(facts, markers.get("python_full_version", ""))
    f.put(facts, markers.get("platform_python_implementation"), "python", "implementation")
    if markers.get("sys_platform") == "linux":
        f.kernel(facts, markers.get("platform_release", ""))
    f.arch(facts, markers.get("platform_machine", ""))


def _distribution(facts: f.Facts, item: dict[str, Any], markers: dict[str, str]) -> None:
    name, version = item["metadata"].get("name"), item["metadata"].get("version")
    if not isinstance(name, str) or not isinstance(version, str):
        return
    if item.get("installer") == "conda":
        # conda leaves a dist-info as well; the package is its, under a name that is mostly the same.
        f.conda_package(facts, name, version)
        return
    direct = item.get("direct_url")
    direct = direct if isinstance(direct, dict) else {}
    installer = item.get("installer")
    f.pip_package(facts, name, version, installer=installer if isinstance(installer, str) and f.is_name(installer) else None,
                  source=_source(direct), editable=_table(direct, "dir_info").get("editable") is True)  # fmt: skip
    needs = item["metadata"].get("requires_dist")
    wanted = _wanted(needs if isinstance(needs, list) else [], markers)
    if wanted and f.is_name(name):
        facts.setdefault("requires", {}).setdefault(f.normalise(name), wanted)


def _source(direct: dict[str, Any]) -> str | None:
    """Return PEP 610's direct URL as a requirement spells it: git+https://host/project@commit."""
    url = direct.get("url")
    if not isinstance(url, str):
        return None
    vcs = _table(direct, "vcs_info")
    if isinstance(vcs.get("vcs"), str):
        commit = vcs.get("commit_id")
        url = f"{vcs['vcs']}+{url}" + (f"@{commit}" if isinstance(commit, str) else "")
    return remote(url)


def _wanted(needs: list[Any], markers: dict[str, str]) -> list[str]:
    """Return the requirements that hold in this interpreter without extras, markers evaluated."""
    from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
    from packaging.requirements import InvalidRequirement, Requirement

    found = []
    for text in needs[:2000]:
        if not isinstance(text, str) or len(text) > 1000:
            continue
        try:
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({**markers, "extra": ""}):
                extras = f"[{','.join(sorted(need.extras))}]" if need.extras else ""
                found.append(f"{f.normalise(need.name)}{extras}{need.specifier}")
        except (
            InvalidRequirement,
            UndefinedComparison,
            UndefinedEnvironmentName,
            ValueError,
            RecursionError,
        ):
            continue
    return sorted(found)


def _table(value: dict[str, Any], key: str) -> dict[str, Any]:
    inner = value.get(key)
    return inner if isinstance(inner, dict) else {}
