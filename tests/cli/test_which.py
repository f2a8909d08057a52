"""``envlock which`` on real ELF files: its winner is the file that a real process of that environment maps."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.support import run
from tests.elf_support import make_library, make_torch, needs_gcc
from tests.packages_support import clean_environ, virtualenv

MAPS = """
import ctypes, sys
for path in sys.argv[1:]:
    ctypes.CDLL(path)
print("\\n".join(sorted({line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if "libcudnn.so" in line})))
"""

pytestmark = needs_gcc


@pytest.fixture(params=["rpath", "runpath"])
def torch(request, tmp_path):
    """A venv with a torch of small libraries, linked as the wheels were; and a folder with another cuDNN."""
    prefix = Path(virtualenv(tmp_path / "venv"))
    site = next(prefix.glob("lib/python3.*/site-packages"))
    make_torch(site, request.param)
    decoy = make_library(tmp_path / "decoy/libcudnn.so.9.5.1", soname="libcudnn.so.9")
    (decoy.parent / "libcudnn.so.9").symlink_to(decoy.name)
    return request.param, prefix, site, decoy


def which(prefix, *arguments, **env):
    return run("which", "cudnn", "--prefix", prefix, *arguments, env={**clean_environ(), **env})


def mapped(prefix, site, **env):
    """Return the cuDNNs that the venv's own Python maps when it opens what `import torch` opens."""
    opened = [site / "torch/lib/libtorch_global_deps.so", *site.glob("torch/_C*.so")]
    done = subprocess.run(
        [prefix / "bin/python", "-c", MAPS, *opened], env={**clean_environ(), **env}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout.split()


def test_the_winner_is_what_a_real_process_maps(torch):
    _, prefix, site, decoy = torch
    own = site / "nvidia/cudnn/lib/libcudnn.so.9"
    for env in (
        {},
        {"LD_LIBRARY_PATH": str(decoy.parent)},
        {"LD_LIBRARY_PATH": f"/nowhere:{own.parent}:{decoy.parent}"},
    ):
        done = which(prefix, "--for", "torch", "--json", **env)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        winners = {search["winner"] for search in answer["searches"]}
        assert [str(Path(winner).resolve()) for winner in winners] == mapped(prefix, site, **env)
        copies = {str(Path(copy["path"]).resolve()) for copy in answer["copies"]}
        assert str(own) in copies
        assert (str(decoy) in copies) == bool(env)


def test_a_decoy_on_ld_library_path_wins_over_runpath_and_loses_to_rpath(torch):
    kind, prefix, site, decoy = torch
    shown = which(prefix, LD_LIBRARY_PATH=str(decoy.parent))
    assert shown.returncode == 0, shown.stderr
    assert str(decoy.parent) in shown.stdout
    assert str(site / "nvidia/cudnn/lib/libcudnn.so.9") in shown.stdout
    reason = "LD_LIBRARY_PATH entry 1" if kind == "runpath" else "RPATH $ORIGIN/../../nvidia/cudnn/lib"
    lines = shown.stdout.splitlines()
    said = lines[lines.index(next(line for line in lines if line.startswith("torch loads "))) + 1]
    assert said.strip().startswith(reason)
    won = {str(Path(path).resolve()) for path in mapped(prefix, site, LD_LIBRARY_PATH=str(decoy.parent))}
    assert won == {str(decoy if kind == "runpath" else site / "nvidia/cudnn/lib/libcudnn.so.9")}


def test_what_is_not_there_is_said(torch):
    _, prefix, site, _ = torch
    (site / "nvidia/cudnn/lib/libcudnn.so.9").unlink()
    done = which(prefix, "--for", "torch")
    assert "libcudnn.so.9 is needed, and no place that is searched has it" in done.stdout
    none = run("which", "nvshmem", "--prefix", prefix, env=clean_environ())
    assert (none.returncode, none.stdout) == (1, "no copy of nvshmem was found\n")
