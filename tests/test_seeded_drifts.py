"""Eight drifts are seeded into a machine, one at a time: each must be found and named, and nothing else.

The machine is a folder: a conda prefix with a torch of small real ELF files in it, linked as the real wheels are.
"""

from __future__ import annotations

import shutil

import pytest

from envlock.manifest.write import write
from tests.cli.support import run
from tests.elf_support import make_dist, make_library, make_torch
from tests.packages_support import below, dist_info
from tests.packages_support import write as lay

SITE = "opt/env/lib/python3.11/site-packages"
CONDA = (
    '{{"name": "{name}", "version": "{version}", "build": "{build}", "channel": "conda-forge", '
    '"subdir": "linux-64", "files": {files}}}'
)


def machine(folder):
    """Lay the machine into a folder."""
    site = folder / SITE
    site.mkdir(parents=True)
    make_torch(site, kind="runpath")
    for name, version in (("alpha", "1.4.2"), ("beta", "2.0.0"), ("gamma", "0.9.1")):
        lay(folder, below(SITE, dist_info(name, version, {f"{name}.py": f"version = '{version}'\n"})))
    lay(folder, below(SITE, dist_info("native", "1.0", {"native/lib.py": "x = 1\n"})))
    lay(
        folder,
        {
            "opt/env/bin/python3.11": b"\x7fELF",
            "opt/env/conda-meta/history": "",
            "opt/env/conda-meta/python-3.11.9-h0_0.json": CONDA.format(
                name="python", version="3.11.9", build="h0_0", files="[]"
            ),
            "opt/env/conda-meta/zlib-1.3.1-h1_0.json": CONDA.format(
                name="zlib", version="1.3.1", build="h1_0", files="[]"
            ),
            "etc/os-release": 'ID=debian\nVERSION_ID="12"\n',
        },
    )
    return folder


def replace(folder, old, name, version):
    shutil.rmtree(folder / SITE / f"{name}-{old}.dist-info")
    lay(folder, below(SITE, dist_info(name, version, {f"{name}.py": f"version = '{version}'\n"})))


def version_up(folder):
    replace(folder, "1.4.2", "alpha", "1.5.0")


def version_down(folder):
    replace(folder, "2.0.0", "beta", "1.9.9")


def extra(folder):
    make_dist(folder / SITE, "stowaway", "6.6.6")


def missing(folder):
    shutil.rmtree(folder / SITE / "gamma-0.9.1.dist-info")


def other_build(folder):
    meta = folder / "opt/env/conda-meta"
    (meta / "zlib-1.3.1-h1_0.json").unlink()
    (meta / "zlib-1.3.1-h2_0.json").write_text(
        CONDA.format(name="zlib", version="1.3.1", build="h2_0", files="[]")
    )


def edited_file(folder):
    (folder / SITE / "native/lib.py").write_text("x = 2\n")


def decoy_cudnn(folder):
    make_library(folder / "opt/decoy/libcudnn.so.8.9.7", soname="libcudnn.so.9")
    (folder / "opt/decoy/libcudnn.so.9").symlink_to("libcudnn.so.8.9.7")


def base_image_moved(folder):
    (folder / "etc/os-release").write_text('ID=debian\nVERSION_ID="13"\n')


def captured(folder, out, *, deep=False, environ=None):
    """Capture the machine as a lock; a folder has no environment of its own, so the decoy's is given by the library."""
    import envlock
    from envlock.roots.folder import FolderRoot

    root = FolderRoot(str(folder), environ or {})
    out.write_text(write(envlock.capture(root, prefix="/opt/env", deep=deep)))
    return out


@pytest.mark.parametrize(
    ("drift", "address", "sign"),
    [
        (version_up, "package.pip.alpha", "1.4.2 -> 1.5.0"),
        (version_down, "package.pip.beta", "2.0.0 -> 1.9.9"),
        (extra, "package.pip.stowaway", "not there -> 6.6.6"),
        (missing, "package.pip.gamma", "0.9.1 -> not there"),
        (other_build, "package.conda.zlib", "(other build)"),
        (edited_file, "package.pip.native", ""),
        (decoy_cudnn, "library.cudnn", "/opt/decoy/"),
        (base_image_moved, "os.version", "12 -> 13"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_seeded_drift_is_found_and_named(tmp_path, drift, address, sign):
    deep = drift is edited_file
    environ = {"LD_LIBRARY_PATH": "/opt/decoy"}
    lock = captured(machine(tmp_path / "locked"), tmp_path / "lock.toml", deep=deep, environ=environ)
    moved = machine(tmp_path / "moved")
    drift(moved)
    done = run(
        "verify", lock, "--against", captured(moved, tmp_path / "now.toml", deep=deep, environ=environ)
    )
    assert done.returncode == 1, done.stdout
    named = [line for line in done.stdout.splitlines() if line.startswith("  ")]
    assert len(named) == 1 and named[0].strip().startswith(address), done.stdout
    assert sign in named[0]
    assert len(done.stdout.splitlines()) <= 15


def test_three_rebuilds_of_one_machine_do_not_drift(tmp_path):
    lock = captured(machine(tmp_path / "locked"), tmp_path / "lock.toml", deep=True)
    for turn in range(3):
        now = captured(machine(tmp_path / f"rebuilt{turn}"), tmp_path / f"now{turn}.toml", deep=True)
        done = run("verify", lock, "--against", now)
        assert (done.returncode, done.stdout) == (0, f"fine: matches {lock}\n")
