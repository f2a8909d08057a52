"""Back into the formats that installers read: a manifest's packages, and a note for each that a format can't hold."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from envlock.errors import EnvlockError
from envlock.locks.export.model import Exported, Files, shown_note
from envlock.manifest.model import Manifest

FORMATS = {
    "conda-lock": "conda_lock",
    "pylock": "pylock",
    "requirements": "requirements",
    "environment-yml": "environment_yml",
    "conda-explicit": "conda_explicit",
    "cyclonedx": "cyclonedx",
    "dockerfile": "dockerfile",
}
"""Format to its module."""


def export(manifest: Manifest, kind: str, files: Files) -> Exported:
    """Write a manifest's packages in a format; ``files`` tells what a manifest does not hold.

    Raises EnvlockError, also where not a single package can be expressed.
    """
    write: Callable[[Manifest, Files], Exported] = import_module(
        f"envlock.locks.export.{FORMATS[kind]}"
    ).write
    made = write(manifest, files)
    held = len(manifest.package.pip) + len(manifest.package.conda)
    if held and not made.packages:
        reasons = "; ".join(made.notes)
        raise EnvlockError(f"none of {held} packages can be written as {kind}: {shown_note(reasons)[:600]}")
    return made
