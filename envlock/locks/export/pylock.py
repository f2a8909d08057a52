"""pylock.toml (PEP 751): a package of an index is its files with their hashes, so that these must be known."""

from __future__ import annotations

from typing import Any

from envlock.locks.export.model import Exported, Files, direct, header, pip_packages
from envlock.locks.model import target_of
from envlock.manifest.model import Manifest, PipPackage
from envlock.manifest.write import string


def write(manifest: Manifest, files: Files) -> Exported:
    """Return the lock for the captured platform; without known files a package of an index is left out."""
    notes: list[str] = []
    packages = []
    unknown = []
    for name, package in pip_packages(manifest, notes).items():
        try:
            entry = _entry(name, package, files)
        except ValueError as error:
            notes.append(f"{name} {package.version}: {error}")
            continue
        if entry is None:
            unknown.append(f"{name} {package.version}")
        else:
            packages.append(entry)
        if package.editable:
            notes.append(
                f"the source of {name}, an editable install: {package.source} must be there where it is used"
            )
    if unknown:
        named = ", ".join(unknown)
        notes.append(
            f"{named}: which files they came from is recorded nowhere; --index-url or --find-links tell"
        )
    if manifest.package.conda:
        notes.append(f"{len(manifest.package.conda)} conda packages: pylock.toml holds none")
    lines = [*header(manifest, notes), 'lock-version = "1.0"', 'created-by = "envlock"']
    lines += _environment(manifest)
    for entry in packages:
        lines += ["", "[[packages]]", *entry]
    return Exported(
        "\n".join(lines) + ("\n" if packages else "\npackages = []\n"), tuple(notes), len(packages)
    )


def _environment(manifest: Manifest) -> list[str]:
    known = target_of(manifest).markers
    names = ("implementation_name", "platform_machine", "sys_platform")
    marker = " and ".join(f"{name} == '{known[name]}'" for name in names if name in known)
    lines = [f"environments = [{string(marker)}]"]
    if "python_version" in known:
        lines.append(f"requires-python = {string('==' + known['python_version'] + '.*')}")
    return lines


def _entry(name: str, package: PipPackage, files: Files) -> list[str] | None:
    """Return a package's keys; None where its files are not known."""
    head = [f"name = {string(name)}", f"version = {string(package.version or '')}"]
    origin = direct(package)
    if origin is not None and origin.commit:
        vcs = {"type": origin.kind, "url": origin.place, "commit-id": origin.commit}
        return [*head, f"vcs = {_table(_with(vcs, origin.subdirectory))}"]
    if origin is not None and origin.kind == "folder":
        directory: dict[str, Any] = {"path": origin.place}
        if package.editable:
            directory["editable"] = True
        # PEP 751: the version of a source tree may change and is left out.
        return [head[0], f"directory = {_table(_with(directory, origin.subdirectory))}"]
    archives = files.pip(name, package.version or "")
    if origin is not None:
        own = [each for each in archives if each.url in (origin.place, "file://" + origin.place)]
        if not own:
            raise ValueError(f"the hash of {origin.place} is recorded nowhere")
        table: dict[str, Any] = {"url": own[0].url, "hashes": {"sha256": own[0].sha256}}
        return [*head, f"archive = {_table(table)}"]
    if not archives:
        return None
    wheels = [each for each in archives if each.file.endswith(".whl")]
    sources = [each for each in archives if not each.file.endswith(".whl")]
    lines = head
    if sources:
        lines.append(f"sdist = {_table(_file(sources[0].file, sources[0].url, sources[0].sha256))}")
    if wheels:
        entries = (f"    {_table(_file(each.file, each.url, each.sha256))}," for each in wheels)
        lines += ["wheels = [", *entries, "]"]
    return lines


def _with(table: dict[str, Any], subdirectory: str) -> dict[str, Any]:
    return {**table, "subdirectory": subdirectory} if subdirectory else table


def _file(name: str, url: str, sha256: str) -> dict[str, Any]:
    return {"name": name, "url": url, "hashes": {"sha256": sha256}}


def _table(table: dict[str, Any]) -> str:
    pairs = (f"{key} = {_value(value)}" for key, value in table.items())
    return "{ " + ", ".join(pairs) + " }"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return _table(value)
    return "true" if value is True else string(value)
