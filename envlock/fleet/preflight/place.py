"""Which ranks see the same machine in the same way, so that one of them can capture for all; and what a node is called."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import sys
from collections.abc import Mapping

from envlock.fleet.preflight.agree import MAY_DIFFER
from envlock.probe.environ import is_of_one_process

_OF_A_PROCESS = re.compile(
    r"^(?:OMPI_|PMI_|PMIX_|PMI2_|PRTE_|MPI_LOCAL|MV2_|HYDRA_|HYDI_|MPIR_|SLURM|SRUN_|FLUX_|PALS_|JSM_|LSB_|LSF_)"
    r"|^(?:TORCHELASTIC_|LOCAL_|GROUP_|ROLE_|RAY_|ACCELERATE_|LIGHTNING_|PL_)|^_$|^(?:OLD)?PWD$|^SHLVL$|RANK$"
)
"""Variables that launchers set for each process; none of them decides which stack is found."""

BOOT = "/proc/sys/kernel/random/boot_id"
MOUNTS = "/proc/self/ns/mnt"


def place(environ: Mapping[str, str] = os.environ) -> bytes:
    """Return 32 bytes that two processes share only if both see the same files in the same environment.

    That is: one boot of one machine, one mount namespace and root folder, one interpreter, user and working folder,
    and the same variables but for those that launchers set for each process. Where the kernel does not say which
    boot or namespace this is, the process stands alone.
    """
    try:
        with open(BOOT, encoding="ascii") as file:
            boot = file.read()
        root = os.stat("/")
        seen = [boot, os.readlink(MOUNTS), f"{root.st_dev}:{root.st_ino}", socket.gethostname()]
    except OSError:
        return os.urandom(32)
    seen += [sys.executable, sys.prefix, str(os.getuid()), os.getcwd()]
    seen += sorted(f"{name}={value}" for name, value in environ.items() if _decides(name.upper()))
    return hashlib.sha256("\0".join(seen).encode("utf-8", "surrogateescape")).digest()


def _decides(name: str) -> bool:
    return not (is_of_one_process(name) or _OF_A_PROCESS.search(name) or MAY_DIFFER.search(name))


def node_name(environ: Mapping[str, str] = os.environ) -> str:
    """Return what this node is called on its cluster: Slurm's name for it, else the host name's first part."""
    return environ.get("SLURMD_NODENAME") or socket.gethostname().partition(".")[0] or "node"
