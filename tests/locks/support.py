"""Manifests and lock files in few words, and environments that the real tools make."""

import subprocess
import sys

from envlock.locks.compare_installed import verify
from envlock.locks.reference import read
from envlock.manifest.read import loads
from tests.packages_support import clean_environ

HEAD = """
schema = "envlock/1"
[capture]
source = "live"
[host]
kernel = "6.8.0"
arch = "x86_64"
platform = "linux"
[os]
libc = "glibc 2.39"
[python]
version = "3.12.3"
implementation = "CPython"
prefix = "/opt/env"
"""


def manifest(pip=None, conda=None, requires=None, head=HEAD):
    """Return a manifest of packages: a version, or the text of the inline table."""
    lines = [head]
    for manager, packages in (("pip", pip), ("conda", conda)):
        if packages:
            lines.append(f"[package.{manager}]")
            for name, value in packages.items():
                table = value if value.startswith("{") else f'{{ version = "{value}" }}'
                lines.append(f'"{name}" = {table}')
    if requires:
        lines.append("[requires]")
        lines += [f"{name} = {wanted!r}" for name, wanted in requires.items()]
    return loads("\n".join(lines))


def conda(version, build, channel="conda-forge", subdir="linux-64", sha256=""):
    tail = f', sha256 = "{sha256}"' if sha256 else ""
    return f'{{ version = "{version}", build = "{build}", channel = "{channel}", subdir = "{subdir}"{tail} }}'


def reference(tmp_path, name, text):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text) if isinstance(text, str) else path.write_bytes(text)
    found = read(str(path))
    assert found is not None
    return found


def compare(tmp_path, name, text, current, **chosen):
    return verify(reference(tmp_path, name, text), current, **chosen)


def drift(*arguments, **chosen):
    """Return the drift as (address, kind) pairs."""
    return [(change.address, change.kind) for change in compare(*arguments, **chosen).drift]


def uv(*arguments, cwd=None, **environ):
    """Run the real uv, from the environment of the tests."""
    done = subprocess.run(
        [sys.executable, "-m", "uv", *map(str, arguments)],
        cwd=cwd,
        env=clean_environ(UV_PYTHON_DOWNLOADS="never", **environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
