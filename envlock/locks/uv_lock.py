"""uv.lock: a universal resolution as a graph; what it asks for is what can be reached from the workspace.

The format is uv's own (https://docs.astral.sh/uv/concepts/projects/layout/#the-lockfile), version 1. Edges
carry markers; where extras or groups conflict, uv writes them into markers as ``extra == 'extra-3-app-cpu'``
(or ``group-3-app-dev``): the kind, the length of the package's name, the name, and the extra.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from envlock.locks.model import (
    Choice,
    Locked,
    LockFile,
    LockFileError,
    Selection,
    Shape,
    Target,
    holds,
    load_toml,
    local_path,
    normalise,
    public_url,
)

_EXTRA = re.compile(r"extra\s*(==|!=)\s*(?:'([^']*)'|\"([^\"]*)\")")
_ALWAYS, _NEVER = "python_version >= '0'", "python_version < '0'"
_LOCAL = ("editable", "directory", "virtual", "path")


class _Graph(NamedTuple):
    path: str
    shape: Shape
    by_name: dict[str, list[dict[str, Any]]]
    roots: list[dict[str, Any]]
    manifest: dict[str, Any]
    requires_python: str


def parse(text: str, path: str) -> LockFile:
    """Read a uv.lock; raises LockFileError."""
    shape = Shape(path, text)
    plain = load_toml(text, path)
    if plain.get("version") != 1:
        raise shape.fail("version", f"version {plain.get('version')!r} is not known; 1 is")
    packages = shape.tables(plain.get("package"), "package")
    by_name: dict[str, list[dict[str, Any]]] = {}
    for index, package in enumerate(packages):
        for key in ("dependencies",):
            shape.tables(package.get(key), f"package[{index}].{key}")
        shape.table(package.get("source"), f"package[{index}].source")
        name = normalise(shape.text(package.get("name"), f"package[{index}].name"))
        by_name.setdefault(name, []).append(package)
    manifest = shape.table(plain.get("manifest"), "manifest")
    members = [normalise(str(each)) for each in shape.list(manifest.get("members"), "manifest.members")]
    requires = shape.text(plain.get("requires-python"), "requires-python")
    graph = _Graph(path, shape, by_name, _roots(packages, members, by_name), manifest, requires)
    extras = {str(extra) for root in graph.roots for extra in _table(root, "optional-dependencies", shape)}
    groups = {str(group) for root in graph.roots for group in _groups(graph, root)}
    groups |= set(map(str, shape.table(manifest.get("dependency-groups"), "manifest.dependency-groups")))
    return LockFile(
        lambda target, choice: _select(graph, target, choice),
        closed=frozenset({"pip"}), speaks_of=frozenset({"pip"}),
        extras=frozenset(extras), groups=frozenset(groups), default_groups=frozenset({"dev"} & groups),
        remedy="uv sync --frozen",
    )  # fmt: skip


def _table(package: dict[str, Any], key: str, shape: Shape) -> dict[str, Any]:
    return shape.table(package.get(key), f"package.{package.get('name')}.{key}")


def _groups(graph: _Graph, package: dict[str, Any]) -> dict[str, Any]:
    return _table(package, "dev-dependencies", graph.shape)


def _roots(
    packages: list[dict[str, Any]], members: list[str], by_name: dict[str, list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Return the project of the lock's own folder; without one, as in a workspace of its own, all members."""
    own = [each for each in packages if _place(each) in (".", "")]
    return own or [package for name in members for package in by_name.get(name, ())]


def _place(package: dict[str, Any]) -> str | None:
    source = package.get("source") or {}
    return next((str(source[key]) for key in ("editable", "virtual", "directory") if key in source), None)


def _select(graph: _Graph, target: Target, choice: Choice) -> Selection:
    unknown: list[str] = []
    active = frozenset(
        f"{kind}-{len(name)}-{name}-{item}"
        for root in graph.roots
        for name in (str(root.get("name")),)
        for kind, items in (("extra", choice.extras), ("group", choice.groups))
        for item in items
    )
    pending = list(_first(graph, choice))
    reached: dict[int, dict[str, Any]] = {id(root): root for root in graph.roots}
    done: set[tuple[int, str]] = set()
    while pending:
        edge = pending.pop()
        if not _counts(graph, edge, target, active, unknown):
            continue
        package = _resolve(graph, edge)
        if package is None:
            continue
        reached[id(package)] = package
        for part in ("", *map(str, graph.shape.list(edge.get("extra"), "dependencies.extra"))):
            if (id(package), part) not in done:
                done.add((id(package), part))
                pending += _edges(graph, package, part)
    locked = (_locked(graph, package) for package in reached.values() if not _is_virtual(package))
    return Selection(tuple(locked), graph.requires_python, tuple(dict.fromkeys(unknown)))


def _first(graph: _Graph, choice: Choice) -> Iterator[dict[str, Any]]:
    shape = graph.shape
    yield from shape.tables(graph.manifest.get("requirements"), "manifest.requirements")
    own_groups = shape.table(graph.manifest.get("dependency-groups"), "manifest.dependency-groups")
    for group in choice.groups & own_groups.keys():
        yield from shape.tables(own_groups[group], f"manifest.dependency-groups.{group}")
    for root in graph.roots:
        for part in ("", *choice.extras):
            yield from _edges(graph, root, part)
        for group in choice.groups & _groups(graph, root).keys():
            yield from shape.tables(_groups(graph, root)[group], f"package.dev-dependencies.{group}")


def _edges(graph: _Graph, package: dict[str, Any], extra: str) -> list[dict[str, Any]]:
    if not extra:
        return list(package.get("dependencies") or ())
    optional = _table(package, "optional-dependencies", graph.shape)
    return graph.shape.tables(
        optional.get(extra), f"package.{package.get('name')}.optional-dependencies.{extra}"
    )


def _counts(
    graph: _Graph, edge: dict[str, Any], target: Target, active: Iterable[str], unknown: list[str]
) -> bool:
    marker = graph.shape.text(edge.get("marker"), "dependencies.marker")

    def decide(found: re.Match[str]) -> str:
        is_active = (found[2] or found[3] or "") in active
        return _ALWAYS if is_active == (found[1] == "==") else _NEVER

    try:
        answer = holds(_EXTRA.sub(decide, marker), target)
    except ValueError as error:
        raise LockFileError(f"{graph.path}: {edge.get('name')}: marker {marker[:80]!r}: {error}") from None
    if answer is None:
        unknown.append(f"whether {edge.get('name')} is asked for here: its marker is {marker[:120]!r}")
    return bool(answer)


def _resolve(graph: _Graph, edge: dict[str, Any]) -> dict[str, Any] | None:
    """Return the package that an edge means; version and source tell the forks of one name apart."""
    name = normalise(graph.shape.text(edge.get("name"), "dependencies.name"))
    candidates = graph.by_name.get(name, [])
    for key in ("version", "source"):
        if key in edge:
            candidates = [each for each in candidates if each.get(key) == edge[key]]
    if len(candidates) > 1:
        raise LockFileError(
            f"{graph.path}: {name}: two packages of that name, and a dependency names neither"
        )
    if not candidates and "specifier" not in edge:
        raise LockFileError(f"{graph.path}: {name}: a dependency that the file does not hold")
    return candidates[0] if candidates else None


def _is_virtual(package: dict[str, Any]) -> bool:
    return "virtual" in (package.get("source") or {})


def _locked(graph: _Graph, package: dict[str, Any]) -> Locked:
    shape, name = graph.shape, str(package.get("name"))
    source = package.get("source") or {}
    archives = [*shape.tables(package.get("wheels"), f"{name}.wheels")]
    if isinstance(package.get("sdist"), dict):
        archives.append(package["sdist"])
    return Locked(
        "pip", normalise(name), shape.text(package.get("version"), f"{name}.version") or None,
        source=_source(graph.path, source), editable="editable" in source, from_index="registry" in source,
        hashes=tuple(str(each["hash"]) for each in archives if "hash" in each),
    )  # fmt: skip


def _source(path: str, source: dict[str, Any]) -> str:
    """Spell a source as a manifest does; git's commit stands behind the ``#``, its branch in the query."""
    if "git" in source:
        address, _, commit = str(source["git"]).partition("#")
        return f"git+{public_url(address)}@{commit}" if commit else f"git+{public_url(address)}"
    if "url" in source:
        return public_url(str(source["url"]))
    local = next((str(source[key]) for key in _LOCAL if key in source), None)
    return "" if local is None else local_path(local, path)
