"""conda-lock.yml, version 1, for the captured platform: nothing is solved, what is installed is what is written.

Format: https://github.com/conda/conda-lock, models of lockfile/v1. conda-lock wants the md5 of every conda
package, and address and hash of every package of pip.
"""

from __future__ import annotations

import json
import re
from typing import Any

from envlock.locks.export.conda_explicit import note_unknown
from envlock.locks.export.model import (
    Archive,
    Exported,
    Files,
    channel_of,
    conda_packages,
    direct,
    header,
    pip_packages,
)
from envlock.locks.model import LockFileError, target_of
from envlock.manifest.model import Manifest, PipPackage
from envlock.manifest.requirements import parse_requirement

_GLIBC = re.compile(r"glibc (\d+)\.(\d+)\Z")
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


def write(manifest: Manifest, files: Files) -> Exported:
    """Return the lock; raises LockFileError where the manifest does not say for which platform it is."""
    notes: list[str] = []
    subdir = target_of(manifest).subdir
    if subdir is None:
        raise LockFileError(
            "the manifest does not say which platform it is of (host.arch), which conda-lock needs"
        )
    entries, channels = _conda(manifest, files, subdir, notes)
    entries += _pip(manifest, files, subdir, notes)
    lines = [
        *header(manifest, notes),
        "version: 1",
        "metadata:",
        "  content_hash:",
        f'    {subdir}: ""',
        "  channels:",
    ]
    for channel in channels:
        lines += [f"  - url: {json.dumps(channel)}", "    used_env_vars: []"]
    if not channels:
        lines[-1] += " []"
    lines += ["  platforms:", f"  - {subdir}", "  sources: []", "package:" if entries else "package: []"]
    for entry in entries:
        lines += _entry_lines(entry)
    return Exported("\n".join(lines) + "\n", tuple(notes), len(entries))


def _conda(
    manifest: Manifest, files: Files, subdir: str, notes: list[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    entries, unknown, channels = [], [], dict[str, None]()
    for name, package in conda_packages(manifest, notes).items():
        file = files.conda.get(name)
        if file is None:
            unknown.append(f"{name} {package.version}")
            continue
        if not file.md5:
            notes.append(f"{name} {package.version}: its record has no md5, which conda-lock needs")
            continue
        channel = channel_of(package, file)
        if channel:
            channels[channel] = None
        depends = [each.partition(" ") for each in file.depends]
        hashes = {"md5": file.md5, **({"sha256": file.sha256} if file.sha256 else {})}
        entries.append(_entry(name, package.version, "conda", subdir, {each[0]: each[2] for each in depends}, file.url,
                              hashes))  # fmt: skip
    note_unknown(unknown, notes)
    return entries, list(channels)


def _pip(manifest: Manifest, files: Files, subdir: str, notes: list[str]) -> list[dict[str, Any]]:
    entries, unknown = [], []
    for name, package in pip_packages(manifest, notes).items():
        try:
            origin = direct(package)
        except ValueError as error:
            notes.append(f"{name} {package.version}: {error}")
            continue
        if origin is not None and not origin.commit and origin.kind != "url":
            what = "an editable install" if package.editable else "a local one"
            notes.append(f"{name} {package.version}: {what} of {package.source}, which has no address")
            continue
        archive = _choose(manifest, package, files.pip(name, package.version or ""))
        if origin is not None and (origin.commit or archive is None or archive.url != origin.place):
            notes.append(f"{name} {package.version}: no hash is known for {package.source}")
        elif archive is None:
            unknown.append(f"{name} {package.version}")
        else:
            wanted = filter(None, map(parse_requirement, manifest.requires.get(name, ())))
            depends = {each.name: each.specifier or "*" for each in wanted}
            entries.append(
                _entry(name, package.version, "pip", subdir, depends, archive.url, {"sha256": archive.sha256})
            )
    if unknown:
        named = ", ".join(unknown)
        notes.append(
            f"{named}: which file they came from is recorded nowhere; --index-url or --find-links tell"
        )
    return entries


def _choose(manifest: Manifest, package: PipPackage, archives: list[Archive]) -> Archive | None:
    """Return the file that an installer takes on the captured platform: conda-lock holds one a package."""
    from packaging.tags import compatible_tags, cpython_tags
    from packaging.utils import parse_wheel_filename

    version = manifest.python.version
    if not version or not archives:
        return None
    numbers = [int(each) for each in version.split(".")[:2] if each.isdigit()]
    platforms = _platforms(manifest)
    abi = manifest.python.abi
    order = [
        *cpython_tags(numbers, abis=[abi] if abi else None, platforms=platforms),
        *compatible_tags(numbers, f"cp{numbers[0]}{numbers[1]}", platforms),
    ]
    rank = {tag: place for place, tag in enumerate(order)}
    wheels = []
    for each in archives:
        if each.file.endswith(".whl"):
            places = [rank[tag] for tag in parse_wheel_filename(each.file)[3] if tag in rank]
            wheels += [(min(places), each)] if places else []
    if wheels:
        return min(wheels)[1]
    return next((each for each in archives if not each.file.endswith(".whl")), None)


def _platforms(manifest: Manifest) -> list[str]:
    arch = manifest.host.arch or target_of(manifest).markers.get("platform_machine", "")
    found = _GLIBC.match(manifest.os.libc or "")
    if target_of(manifest).markers.get("sys_platform") != "linux" or not found:
        return [f"linux_{arch}"] if arch else []
    platforms = []
    for minor in range(min(int(found[2]), 200), 4, -1):
        platforms.append(f"manylinux_2_{minor}_{arch}")
        if minor in _LEGACY:
            platforms.append(f"{_LEGACY[minor]}_{arch}")
    return [*platforms, f"linux_{arch}"]


def _entry(
    name: str, version: str | None, manager: str, platform: str, dependencies: dict[str, str], url: str,
    hashes: dict[str, str],
) -> dict[str, Any]:  # fmt: skip
    return {
        "name": name, "version": version, "manager": manager, "platform": platform, "dependencies": dependencies,
        "url": url, "hash": hashes, "category": "main", "optional": False,
    }  # fmt: skip


def _entry_lines(entry: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for key, value in entry.items():
        lead = "  " if lines else "- "
        if isinstance(value, dict):
            lines.append(f"{lead}{key}:" if value else f"{lead}{key}: {{}}")
            lines += [f"    {json.dumps(each)}: {json.dumps(item)}" for each, item in value.items()]
        else:
            lines.append(f"{lead}{key}: {json.dumps(value)}")
    return lines
