"""Nodes whose probe was run by other means (Kubernetes, a batch job, by hand): one file of its output a node."""

from __future__ import annotations

import os
from collections.abc import Iterator

from envlock.errors import EnvlockError
from envlock.fleet.engines import OUTPUT_LIMIT, Answer, Asked, Request
from envlock.fleet.store import read_regular


def ask(request: Request, asked: Asked, folder: str) -> Iterator[Answer]:
    """Take each ``<node>.json`` or ``<node>.log`` of a folder; raises EnvlockError where it holds none."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise EnvlockError(f"cannot read {folder}: {error.strerror or error}") from None
    files: dict[str, str] = {}
    for name in names:
        node, kind = os.path.splitext(name)
        if kind in (".json", ".log") and not node.startswith("."):
            if node in files:
                raise EnvlockError(f"{folder}: {files[node]} and {name} are both of node {node}")
            files[node] = name
    if not files:
        raise EnvlockError(f"{folder}: no probe's output in it (NODE.json or NODE.log)")
    for node in asked(list(files)):
        try:
            yield Answer(node, read_regular(os.path.join(folder, files[node]), OUTPUT_LIMIT))
        except EnvlockError as error:
            yield Answer(node, failed=str(error))
