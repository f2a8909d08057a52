"""What is read from an image equals what is captured live inside a container of it: the image facts, digest and all.

The container is buildah's, with this machine's own Python, C library and a few wheels in it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from envlock.manifest.model import IMAGE_SECTIONS, to_plain
from envlock.manifest.read import loads
from tests.cli.support import run
from tests.image_support import Buildah, tool
from tests.packages_support import conda_install, conda_package, pip, virtualenv

ENV = {"VIRTUAL_ENV": "/opt/venv", "PATH": "/opt/venv/bin:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}


def libraries_of(program: Path) -> set[Path]:
    """Return the files that the loader would map for a program."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return {Path(path) for path in re.findall(r"(/\S+) \(0x", said)}


def put(source: Path, rootfs: Path) -> None:
    """Copy a file of this machine to the same place below a root, links resolved at their own name."""
    target = rootfs / str(source).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy2(source, target)


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory):
    """A root with Debian's own Python and a venv of it that holds real wheels."""
    python = Path("/usr/bin/python3")
    if not python.exists() or "/usr" not in subprocess.check_output(
        [python, "-c", "import os; print(os.__file__)"], text=True
    ):
        pytest.skip("this machine has no system Python under /usr/bin")
    root = tmp_path_factory.mktemp("rootfs")
    real = python.resolve()
    standard = Path(
        subprocess.check_output(
            [python, "-c", "import os; print(os.path.dirname(os.__file__))"], text=True
        ).strip()
    )
    for folder in ("etc", "usr/bin", "bin", "tmp", "proc", "dev", "root", "opt"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    put(real, root)
    (root / "usr/bin/python3").symlink_to(real.name)
    shutil.copytree(
        standard,
        root / str(standard).lstrip("/"),
        ignore=shutil.ignore_patterns("__pycache__", "test", "dist-packages"),
    )
    needed = libraries_of(real).union(
        *(libraries_of(module) for module in (standard / "lib-dynload").glob("*.so"))
    )
    for library in needed:
        put(library, root)
    (root / "etc/os-release").write_text('ID=debian\nVERSION_ID="12"\n')
    venv = root / "opt/venv"
    made = Path(virtualenv(tmp_path_factory.mktemp("made") / "venv", "--python", str(python)))
    pip(made, "install", "-q", "six==1.16.0", "nvidia-cuda-runtime-cu12==12.8.90", "requests==2.32.3")
    shutil.copytree(made, venv, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    config = venv / "pyvenv.cfg"
    config.write_text(config.read_text().replace(str(made), "/opt/venv"))
    for name in ("python", "python3", real.name):
        (venv / "bin" / name).unlink(missing_ok=True)
        (venv / "bin" / name).symlink_to("/usr/bin/python3" if name == "python" else "python")
    channel = tmp_path_factory.mktemp("conda") / "channel"
    conda_package(channel, "zlib", "1.3.1", "h1_0", {"lib/libz.so.1": b"\x7fELF"})
    conda_package(channel, "six", "1.17.0", "py_0", {"site-packages/six.py": b""}, subdir="noarch")
    conda = conda_install(channel, channel.parent / "prefix", ["zlib", "six"])
    shutil.copytree(conda, root / "opt/conda", symlinks=True)
    return root


@pytest.mark.skipif(sys.platform != "linux", reason="images are of Linux")
def test_the_image_facts_are_those_of_a_live_capture_inside_its_container(rootfs, tmp_path):
    tool("buildah")
    buildah = Buildah(tmp_path / "buildah")
    container = buildah("from", "scratch")
    buildah("copy", container, str(rootfs), "/")
    for name, value in ENV.items():
        buildah("config", "--env", f"{name}={value}", container)
    probe = run("probe").stdout
    mounted = Path(buildah("mount", container))
    (mounted / "tmp" / "probe.pyz").write_text(probe)
    live = buildah("run", container, "/usr/bin/python3", "/tmp/probe.pyz")
    (mounted / "tmp" / "probe.pyz").unlink()
    assert json.loads(live)["source"] == "live"
    (tmp_path / "live.json").write_text(live)
    buildah("commit", "-q", container, "app")
    buildah("push", "-q", "app", f"oci:{tmp_path / 'layout'}:app")

    inside = loads(run("capture", "--from", tmp_path / "live.json", "--reproducible").stdout)
    read = loads(run("capture", "--image", tmp_path / "layout", "--reproducible").stdout)
    assert read.capture.source == "image"
    assert {"six", "requests", "nvidia-cuda-runtime-cu12"} <= set(read.package.pip)
    one, two = to_plain(inside), to_plain(read)
    for section in IMAGE_SECTIONS:
        assert two.get(section) == one.get(section), section
    assert two["conda"] == one["conda"] and set(two["conda"]["/opt/conda"]) == {"six", "zlib"}
    assert read.package.pip["six"].version == "1.16.0" and not read.package.conda
    assert read.requires == inside.requires
    assert read.digest["image"] == inside.digest["image"]
    done = run("verify", _written(tmp_path, inside), "--image", tmp_path / "layout")
    assert done.returncode == 0, done.stdout


def _written(folder: Path, manifest) -> Path:
    from envlock.manifest.write import write

    (folder / "lock.toml").write_text(write(manifest))
    return folder / "lock.toml"
