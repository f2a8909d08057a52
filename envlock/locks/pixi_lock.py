"""pixi.lock, versions 4 to 6: environments of package lists, one a platform (rattler_lock's format).

https://pixi.sh/latest/workspace/lockfile/. From version 6 on a conda package's facts stand in its URL.
"""

from __future__ import annotations

from typing import Any

from envlock.locks.model import (
    Choice,
    Locked,
    LockFile,
    LockFileError,
    Selection,
    Shape,
    Target,
    archive_name,
    conda_file,
    is_local,
    load_yaml,
    local_path,
    normalise,
    public_url,
)

VERSIONS = ("4", "5", "6")
DEFAULT = "default"


def parse(text: str, path: str) -> LockFile:
    """Read a pixi.lock; an environment is chosen like a group. Raises LockFileError."""
    shape = Shape(path)
    plain = shape.table(load_yaml(text, path), "the file")
    version = shape.text(plain.get("version"), "version")
    if version not in VERSIONS:
        raise shape.fail("version", f"version {version!r} is not known; {', '.join(VERSIONS)} are")
    environments = shape.table(plain.get("environments"), "environments")
    records = _records(shape.tables(plain.get("packages"), "packages"))

    def select(target: Target, choice: Choice) -> Selection:
        if len(choice.groups) > 1:
            raise LockFileError(
                f"{path}: one environment at a time: {', '.join(sorted(choice.groups))} were named"
            )
        name = next(iter(choice.groups), DEFAULT)
        if name not in environments:
            raise LockFileError(
                f"{path}: holds no environment {name!r}; --group names one of {_names(environments)}"
            )
        place = f"environments.{name}.packages"
        platforms = shape.table(
            shape.table(environments[name], f"environments.{name}").get("packages"), place
        )
        if target.subdir not in platforms:
            held = ", ".join(sorted(platforms))
            raise LockFileError(
                f"{path}: {name} holds {held}, and the environment is {target.subdir or 'not known'}"
            )
        entries = shape.tables(platforms[target.subdir], f"{place}.{target.subdir}")
        return Selection(tuple(_locked(entry, records, shape, path) for entry in entries))

    return LockFile(
        select, closed=frozenset({"conda", "pip"}), speaks_of=frozenset({"conda", "pip"}),
        groups=frozenset(environments), remedy="pixi install --frozen",
    )  # fmt: skip


def _names(table: dict[str, Any]) -> str:
    return ", ".join(sorted(table)[:20])


def _records(packages: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return each package's record by its address."""
    return {
        str(each.get("conda") or each.get("pypi") or each.get("url") or each.get("path")): each
        for each in packages
    }


def _locked(entry: dict[str, Any], records: dict[str, dict[str, Any]], shape: Shape, path: str) -> Locked:
    if "conda" in entry:
        return _conda(shape.text(entry["conda"], "conda"), records, shape)
    if "pypi" not in entry:
        raise shape.fail("environments", f"neither conda nor pypi: {sorted(map(str, entry))[:3]}")
    return _pypi(shape.text(entry["pypi"], "pypi"), records, shape, path)


def _hashes(record: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{kind}:{record[kind]}" for kind in ("sha256", "md5") if record.get(kind))


def _conda(url: str, records: dict[str, dict[str, Any]], shape: Shape) -> Locked:
    record, found = records.get(url, {}), conda_file(url)
    if found is None:
        # A package that pixi builds from source: its build is made anew on each machine.
        name = shape.text(record.get("name"), url) or url.rstrip("/").rpartition("/")[2]
        return Locked("conda", name, shape.text(record.get("version"), url) or None)
    name, version, build, subdir, channel = found
    return Locked("conda", name, version, build=build, subdir=subdir, channel=channel, hashes=_hashes(record))


def _pypi(url: str, records: dict[str, dict[str, Any]], shape: Shape, path: str) -> Locked:
    record, known = records.get(url, {}), archive_name(url)
    name = shape.text(record.get("name"), url) or (known[0] if known else "")
    if not name:
        raise shape.fail("packages", f"no name for {public_url(url)[:200]}")
    version = shape.text(record.get("version"), url) or (known[1] if known else None)
    editable = record.get("editable") == "true"
    source, index_too = public_url(url), False
    if url.startswith("git+"):
        address, _, commit = url[4:].partition("#")
        source = f"git+{public_url(address)}@{commit}" if commit else f"git+{public_url(address)}"
    elif is_local(url):
        source = local_path(url, path)
    else:
        index_too = True
    return Locked("pip", normalise(name), version or None, source=source, editable=editable, index_too=index_too,
                  hashes=_hashes(record))  # fmt: skip
