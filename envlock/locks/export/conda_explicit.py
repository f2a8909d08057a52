"""conda's explicit list: the address of every package's file, with its md5, as ``conda list --explicit`` has it."""

from __future__ import annotations

from envlock.locks.export.model import Exported, Files, conda_packages, header, plural
from envlock.locks.model import target_of
from envlock.manifest.model import Manifest


def write(manifest: Manifest, files: Files) -> Exported:
    """Return the list; a package whose file's address is not known is left out."""
    notes: list[str] = []
    lines = explicit_lines(manifest, files, notes)
    if manifest.package.pip:
        notes.append(
            f"{plural(len(manifest.package.pip), 'pip package')}: requirements and conda-lock hold them"
        )
    subdir = target_of(manifest).subdir
    platform = [f"# platform: {subdir}"] if subdir else []
    return Exported(
        "\n".join([*header(manifest, notes), *platform, "@EXPLICIT", *lines]) + "\n", tuple(notes), len(lines)
    )


def explicit_lines(manifest: Manifest, files: Files, notes: list[str]) -> list[str]:
    """Return an address for each package whose record is at hand; ``notes`` gains the others."""
    lines, unknown = [], []
    for name, package in conda_packages(manifest, notes).items():
        file = files.conda.get(name)
        if file is None:
            unknown.append(f"{name} {package.version}")
        else:
            digest = file.md5 or (f"sha256:{file.sha256}" if file.sha256 else "")
            lines.append(f"{file.url}#{digest}" if digest else file.url)
    note_unknown(unknown, notes)
    return lines


def note_unknown(unknown: list[str], notes: list[str]) -> None:
    """Say of which conda packages the file is not known."""
    if unknown:
        named = ", ".join(unknown)
        notes.append(
            f"{named}: a manifest does not hold a file's address; run this where the prefix is, or name it by --prefix"
        )
