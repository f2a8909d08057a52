"""Which tool's lock file a file is: told by its name where the tool fixes it, else by what stands in it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import NamedTuple

from envlock.locks.model import LockFile, read_text

FORMATS = ("conda-lock", "pylock", "requirements", "uv", "pixi", "conda-explicit", "environment-yml")
_HEAD = 64 * 1024
_MANIFEST = re.compile(r"""^\s*["']?schema["']?\s*=\s*["']envlock/""", re.M)


class Reference(NamedTuple):
    """A lock file of another tool, read but not yet parsed."""

    path: str
    format: str
    """One of FORMATS."""
    text: str

    def parse(self) -> LockFile:
        """Parse the file; raises LockFileError with the place."""
        return _reader(self.format)(self.text, self.path)


def read(path: str) -> Reference | None:
    """Return the foreign lock at a path; None where it is a manifest, or nothing that is known.

    Raises LockFileError where the file cannot be read. Standard input ("-")
    and pipes are always manifests: they can be read only once.
    """
    if path == "-" or (os.path.exists(path) and not os.path.isfile(path)):
        return None
    text = read_text(path)
    kind = _kind(os.path.basename(path), text)
    return Reference(path, kind, text) if kind else None


def _kind(name: str, text: str) -> str | None:
    head = text[:_HEAD]
    if _MANIFEST.search(head):
        return None
    if name == "uv.lock":
        return "uv"
    if name == "pixi.lock":
        return "pixi"
    if re.fullmatch(r"pylock(\.[^.]+)?\.toml", name):
        return "pylock"
    if re.search(r"^@EXPLICIT\s*$", head, re.M):
        return "conda-explicit"
    if name.endswith((".txt", ".in")):
        return "requirements"
    if name.endswith((".yml", ".yaml", ".lock")):
        return _yaml_kind(text)
    if name.endswith(".toml"):
        return "pylock" if re.search(r"^lock-version\s*=", head, re.M) else None
    return None


def _yaml_kind(text: str) -> str | None:
    keys = set(re.findall(r"^([A-Za-z]+)\s*:", text, re.M))
    if {"environments", "packages"} <= keys:
        return "pixi"
    if {"metadata", "package"} <= keys:
        return "conda-lock"
    if "dependencies" in keys:
        return "environment-yml"
    return "uv" if re.search(r"^\[\[package\]\]", text, re.M) else None


def _reader(kind: str) -> Callable[[str, str], LockFile]:
    from importlib import import_module

    module = {
        "conda-lock": "conda_lock", "pylock": "pylock", "requirements": "requirements_txt", "uv": "uv_lock",
        "pixi": "pixi_lock", "conda-explicit": "conda_explicit", "environment-yml": "environment_yml",
    }[kind]  # fmt: skip
    parse: Callable[[str, str], LockFile] = import_module(f"envlock.locks.{module}").parse
    return parse
