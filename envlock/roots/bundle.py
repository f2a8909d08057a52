"""Packs the probes into one script that any CPython from 3.8 on can run from standard input.

``ssh node python3 - < probe.pyz`` gives the interpreter source text, not a file: a zip archive, whose
headers are binary, cannot be run that way. The bundle is therefore Python text that carries the modules
compressed (zlib, base64), imports them from memory, and writes nothing to the disk of the machine.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Iterator

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_FILES = ("roots/__init__.py", "roots/live.py", "roots/folder.py", "roots/remote.py")

_SCRIPT = """# envlock {version}: prints what there is on this machine as JSON; reads files, writes none. CPython 3.8 or newer.
#   ssh node python3 - < probe.pyz          docker exec -i box python3 - < probe.pyz
import sys
if sys.version_info < (3, 8):
    sys.exit("envlock: the probe needs CPython 3.8 or newer, this is " + sys.version.split()[0])
import base64, importlib.abc, importlib.util, json, zlib
FILES = json.loads(zlib.decompress(base64.b85decode("{data}")).decode("utf-8"))
class Bundle(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        stem = name.replace(".", "/")
        for file, package in ((stem + "/__init__.py", True), (stem + ".py", False)):
            if file in FILES:
                return importlib.util.spec_from_loader(name, self, origin=file, is_package=package)
    def exec_module(self, module):
        module.__file__ = module.__spec__.origin
        exec(compile(FILES[module.__file__], module.__file__, "exec"), module.__dict__)
    def get_data(self, path):
        return FILES[path.replace("\\\\", "/")].encode("utf-8")
for name in [name for name in sys.modules if name.split(".")[0] == "envlock"]:
    del sys.modules[name]
sys.meta_path.insert(0, Bundle())
from envlock.roots.remote import main
sys.exit(main(sys.argv[1:]))
"""


def bundle(version: str) -> str:
    """Return the script; the same source gives the same text."""
    files = dict(_sources())
    data = zlib.compress(json.dumps(files, sort_keys=True).encode("utf-8"), 9)
    return _SCRIPT.format(version=version, data=base64.b85encode(data).decode("ascii"))


def _sources() -> Iterator[tuple[str, str]]:
    yield "envlock/__init__.py", '"""The probes of envlock, on their own."""\n'
    names = list(_FILES)
    for folder in ("probe", "probe/ask"):
        listed = sorted(os.listdir(os.path.join(_PACKAGE, folder)))
        names += [f"{folder}/{name}" for name in listed if name.endswith(".py")]
    for name in names:
        with open(os.path.join(_PACKAGE, name), encoding="utf-8") as file:
            yield f"envlock/{name}", file.read()
