"""Real jobs: processes with torch in them, which find each other as the ranks of a job do."""

import json
import shutil
import socket
import subprocess
import sysconfig
from pathlib import Path

from tests.nvml_double.build import build_libcuda, build_nvml
from tests.packages_support import clean_environ, virtualenv

TOP = Path(__file__).parent.parent.parent
H100 = "NVIDIA H100 80GB HBM3,81559,9.0,0"
GOOD = {"DOUBLE_DRIVER": "580.95.05", "DOUBLE_CUDA": "13000", "DOUBLE_GPUS": H100}
OLD = {"DOUBLE_DRIVER": "470.256.02", "DOUBLE_CUDA": "11040", "DOUBLE_GPUS": H100}
"""What the double of NVML answers; the variables are none that a manifest records."""


def job_prefix(folder, cpu_torch):
    """Make an environment that imports torch, this envlock and what it needs from where they lie."""
    prefix = virtualenv(folder)
    (site,) = Path(prefix, "lib").glob("python3.*/site-packages")
    (torch,) = Path(cpu_torch, "lib").glob("python3.*/site-packages")
    lines = [TOP, torch, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    (site / "job.pth").write_text("\n".join(dict.fromkeys(map(str, lines))) + "\n")
    return prefix


def driver_double(folder):
    build_nvml(Path(folder))
    build_libcuda(Path(folder))
    return {"LD_LIBRARY_PATH": str(folder)}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def job_environ(**more):
    """Return the environment of a job's processes, without what a launcher of this test run may have set."""
    launchers = (
        "SLURM",
        "OMPI_",
        "PMI",
        "TORCHELASTIC",
        "MASTER_",
        "RANK",
        "WORLD_SIZE",
        "LOCAL_",
        "DOUBLE_",
    )
    clean = {name: value for name, value in clean_environ().items() if not name.startswith(launchers)}
    return {**clean, "OMP_NUM_THREADS": "1", **more}


class Ranks:
    """Runs code in several processes, each forked from one that has imported torch: an import takes seconds."""

    def __init__(self, prefix, environ):
        command = [f"{prefix}/bin/python", str(TOP / "tests/fleet/forked_ranks.py")]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=job_environ(**environ)
        )

    def run(self, codes, environs=None, limit=60):
        """Run one code a rank, with further variables for each; return each rank's exit code and output."""
        size = len(codes)
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(size)}
        ranks = [
            {
                "code": code,
                "environ": {
                    **place,
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    **((environs or [{}] * size)[rank]),
                },
            }
            for rank, code in enumerate(codes)
        ]
        self._process.stdin.write(json.dumps({"ranks": ranks, "limit": limit}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def needs_gcc():
    import pytest

    return pytest.mark.skipif(shutil.which("gcc") is None, reason="the double of NVML is compiled with gcc")


def run_job(command, folder, **environ):
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=job_environ(**environ), capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip
