"""Runs the probes by themselves and prints their document: what travels to machines without envlock."""

import argparse
import json
import sys
from typing import List, Optional

from envlock.probe.collect import start
from envlock.probe.root import Root
from envlock.probe.target import TargetError


def main(arguments: Optional[List[str]] = None) -> int:
    """Print the observation document as JSON; 2 with one sentence on stderr where that cannot be done."""
    parser = argparse.ArgumentParser(
        prog="envlock probe", description="Print what there is on this machine, as JSON."
    )
    parser.add_argument("--python", metavar="EXE", help="the interpreter whose environment is meant")
    parser.add_argument("--prefix", metavar="DIR", help="the venv or conda prefix that is meant")
    parser.add_argument(
        "--root", metavar="DIR", help="read the file system mounted here instead of this machine"
    )
    parser.add_argument("--all-system-packages", action="store_true", help="record every system package")
    options = parser.parse_args(arguments)
    try:
        root = _root(options.root)
        # Nothing is written on a machine that is only looked at.
        document = start(root, options.python, options.prefix, options.all_system_packages, remember=False)()
    except (TargetError, OSError) as error:
        sys.stderr.write(f"envlock: {error}\n")
        return 2
    # ASCII, so that a machine in the C locale prints the same.
    sys.stdout.write(json.dumps(document, sort_keys=True) + "\n")
    sys.stdout.flush()
    return 0


def _root(folder: Optional[str]) -> Root:
    if folder is None:
        from envlock.roots.live import LiveRoot

        return LiveRoot()
    from envlock.roots.folder import FolderRoot

    return FolderRoot(folder)
