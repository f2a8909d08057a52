"""requirements.txt: every package with its version, and the hashes of its files where all of them are known."""

from __future__ import annotations

from envlock.locks.export.model import (
    Archive,
    Direct,
    Exported,
    Files,
    direct,
    header,
    pip_packages,
    plural,
)
from envlock.manifest.model import Manifest, PipPackage


def write(manifest: Manifest, files: Files) -> Exported:
    """Return the requirements; with hashes only if every line has one, since pip takes all or none."""
    notes: list[str] = []
    lines = requirement_lines(manifest, files, notes)
    if manifest.package.conda:
        count = plural(len(manifest.package.conda), "conda package")
        notes.append(f"{count}: environment-yml, conda-lock and conda-explicit hold them")
    return Exported("\n".join([*header(manifest, notes), *lines]) + "\n", tuple(notes), len(lines))


def requirement_lines(
    manifest: Manifest, files: Files, notes: list[str], *, hashes: bool = True
) -> list[str]:
    """Return a line for each package that can be expressed; ``notes`` gains a sentence for each other one."""
    found: list[tuple[str, list[Archive]]] = []
    without = []
    for name, package in pip_packages(manifest, notes).items():
        try:
            origin = direct(package)
        except ValueError as error:
            notes.append(f"{name} {package.version}: {error}")
            continue
        if package.editable:
            notes.append(f"{name} {package.version}: an editable install of {package.source}")
            continue
        archives = files.pip(name, package.version or "") if hashes and origin is None else []
        found.append((_line(name, package, origin), archives))
        if not archives:
            without.append(name)
    locals_ = [line for line, _ in found if "+" in line.partition("==")[2]]
    if locals_:
        notes.append(
            f"the index of {', '.join(locals_)}: local versions are not on PyPI, so that pip needs its maker's "
            "index by --extra-index-url"
        )
    if not without:
        return [_with_hashes(line, archives) for line, archives in found]
    if len(without) < len(found):
        notes.append(
            f"hashes: none are known for {', '.join(without)}, and pip takes them for all or for none"
        )
    return [line for line, _ in found]


def _line(name: str, package: PipPackage, origin: Direct | None) -> str:
    if origin is None:
        return f"{name}=={package.version}"
    tail = f"#subdirectory={origin.subdirectory}" if origin.subdirectory else ""
    if origin.commit:
        return f"{name} @ {origin.kind}+{origin.place}@{origin.commit}{tail}"
    if origin.kind == "url":
        return f"{name} @ {origin.place}{tail}"
    from urllib.parse import quote

    return f"{name} @ file://{quote(origin.place)}{tail}"


def _with_hashes(line: str, archives: list[Archive]) -> str:
    hashes = sorted({f"    --hash=sha256:{each.sha256}" for each in archives})
    return " \\\n".join([line, *hashes])
