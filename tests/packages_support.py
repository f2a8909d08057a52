"""Builders of what the package probes read: trees of files, wheels, conda packages, real environments."""

import asyncio
import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path


def write(folder, files):
    """Write text or bytes by relative path; a value of None makes a folder."""
    for path, content in files.items():
        place = Path(folder) / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            place.mkdir(exist_ok=True)
        else:
            place.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(folder)


def record_line(path, content):
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(content)}"


def dist_info(name, version, files=None, installer="pip", extra=None, requires=(), label=None):
    """Return a distribution's files, as an installer leaves them in site-packages."""
    folder = f"{label or name.replace('-', '_')}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {line}\n" for line in requires) + "\nVersion: not a header\n"
    made = {path: text.encode() for path, text in (files or {}).items()}
    made[f"{folder}/METADATA"] = metadata.encode()
    if installer:
        made[f"{folder}/INSTALLER"] = installer.encode() + b"\n"
    for path, text in (extra or {}).items():
        made[f"{folder}/{path}"] = text.encode()
    lines = [record_line(path, content) for path, content in made.items()]
    made[f"{folder}/RECORD"] = ("\n".join([*lines, f"{folder}/RECORD,,"]) + "\n").encode()
    return made


def below(folder, files):
    return {f"{folder}/{path}": content for path, content in files.items()}


def wheel(folder, name, version, files=None, requires=()):
    """Build a real wheel that pip installs, with one console script."""
    stem = f"{name.replace('-', '_')}-{version}"
    made = dist_info(name, version, files, installer="", requires=requires)
    made.pop(f"{stem}.dist-info/RECORD")
    made[f"{stem}.dist-info/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    made[f"{stem}.dist-info/entry_points.txt"] = f"[console_scripts]\n{name}-run = json:dumps\n".encode()
    made[f"{stem}.data/scripts/{name}-tool"] = b"#!python\nprint()\n"
    lines = [record_line(path, content) for path, content in made.items()] + [f"{stem}.dist-info/RECORD,,"]
    made[f"{stem}.dist-info/RECORD"] = "\n".join(lines).encode() + b"\n"
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = Path(folder) / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, content in made.items():
            archive.writestr(inside, content)
    return str(path)


def clean_environ(**more):
    """Return the process's environment without what selects or colours a Python."""
    dropped = (
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "PYTHONPATH",
        "PYTHONNOUSERSITE",
        "PYTHONUSERBASE",
        "PYENV_VERSION",
    )
    return {**{key: value for key, value in os.environ.items() if key not in dropped}, **more}


def virtualenv(folder, *options):
    """Make a real virtual environment with pip and nothing else in it."""
    command = [sys.executable, "-m", "virtualenv", "--no-download", "--no-periodic-update", "-q", *options]
    subprocess.run([*command, str(folder)], check=True, env=clean_environ())
    return str(folder)


def pip(prefix, *arguments):
    command = [f"{prefix}/bin/python", "-m", "pip", "--disable-pip-version-check", *arguments]
    run = subprocess.run(command, check=True, env=clean_environ(), stdout=subprocess.PIPE)
    return run.stdout.decode()


def conda_package(channel, name, version, build, files, subdir="linux-64"):
    """Build a conda package into a channel's folder."""
    index = {
        "name": name,
        "version": version,
        "build": build,
        "build_number": 0,
        "depends": [],
        "subdir": subdir,
    }
    listed = [
        {
            "_path": path,
            "path_type": "hardlink",
            "sha256": hashlib.sha256(content).hexdigest(),
            "size_in_bytes": len(content),
        }
        for path, content in files.items()
    ]
    info = {
        "info/index.json": json.dumps(index).encode(),
        "info/paths.json": json.dumps({"paths_version": 1, "paths": listed}).encode(),
        "info/files": "\n".join(files).encode(),
    }
    folder = Path(channel) / subdir
    folder.mkdir(parents=True, exist_ok=True)
    (Path(channel) / "noarch").mkdir(exist_ok=True)
    with tarfile.open(folder / f"{name}-{version}-{build}.tar.bz2", "w:bz2") as archive:
        for path, content in {**info, **files}.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def conda_install(channel, prefix, specs):
    """Let rattler, the engine of pixi, solve and install from a folder channel."""
    import rattler
    from rattler.index import index_fs

    async def work():
        await index_fs(Path(channel))
        sources = [rattler.Channel(f"file://{channel}")]
        records = await rattler.solve(sources=sources, specs=specs, platforms=["linux-64", "noarch"])
        cache = Path(channel).parent / "cache"
        await rattler.install(records, target_prefix=str(prefix), cache_dir=cache, show_progress=False)

    asyncio.run(work())
    return str(prefix)
