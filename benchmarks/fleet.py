"""How `envlock fleet diff` grows with the fleet: generated nodes of 300 packages on 12 distinct stacks.

    python benchmarks/fleet.py [--nodes 1000 3000 10000] [--runs 3]

Every node has its own capture time, host and environ tables (interfaces, a little more or less memory, a scratch
folder), as nodes of one job have. Eleven stacks of one to three nodes differ from the rest in a driver, an NCCL, a
framework or a package. Each figure is a whole process's: wall time, CPU time and peak memory (ru_maxrss); beside it
stands `cat` over the same files, which is what reading them costs. The files are removed at the end.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PACKAGES = 300
LIBRARIES = 40

ODD: tuple[dict[str, str], ...] = (
    {"driver": "550.54.14"}, {"driver": "470.256.02"}, {"nccl": "2.28.9"}, {"nccl": "2.26.2"}, {"torch": "2.8.0+cu128"},
    {"kernel": "5.15.0-91-generic"}, {"gpus": "7"}, {"environ": 'NCCL_IB_DISABLE = "1"\n'}, {"numpy": "1.26.4"},
    {"driver": "550.54.14", "nccl": "2.26.2"}, {"python": "3.11.8"},
)  # fmt: skip


def stack(odd: dict[str, str]) -> tuple[str, str]:
    """Return the tables that nodes of one stack share: those between [host] and [environ], and what environ adds."""
    nccl, driver = odd.get("nccl", "2.27.5"), odd.get("driver", "580.95.05")
    lines = [
        f'[driver]\nversion = "{driver}"\nkernel_module = "{driver}"\nflavor = "open"\ncuda = "13.0"\n',
        '[[gpu]]\nname = "NVIDIA H100 80GB HBM3"\ncompute_capability = "9.0"\nmemory_mib = 81559\n'
        f"count = {odd.get('gpus', '8')}\n",
        '[os]\nid = "ubuntu"\nversion = "24.04"\nlibc = "glibc 2.39"\nlibstdcxx = "GLIBCXX_3.4.33"\n',
        f'[python]\nversion = "{odd.get("python", "3.11.9")}"\nimplementation = "CPython"\nabi = "cp311"\n'
        'executable = "/opt/venv/bin/python"\nprefix = "/opt/venv"\n',
    ]
    site = "/opt/venv/lib/python3.11/site-packages/nvidia"
    lines += [
        f'[[library]]\nname = "nccl"\nversion = "{nccl}"\nsoname = "libnccl.so.2"\npath = "{site}/nccl/lib/libnccl.so.2"\n'
        'provider = "pip:nvidia-nccl-cu12"\ncuda = "12"\nused_by = ["torch"]\n'
    ]
    lines += [
        f'[[library]]\nname = "lib{place:02}"\nversion = "12.{place}"\nsoname = "liblib{place:02}.so.12"\n'
        f'path = "{site}/lib{place:02}/lib/liblib{place:02}.so.12"\nprovider = "pip:nvidia-lib{place:02}-cu12"\n'
        for place in range(LIBRARIES)
    ]
    lines += [
        f'[framework.torch]\nversion = "{odd.get("torch", "2.9.1+cu128")}"\ncuda = "12.8"\nnccl = "2.27.5"\n'
        'archs = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]\nsource = "pip"\n',
        "[package.pip]",
    ]
    versions = {
        "nvidia-nccl-cu12": nccl,
        "torch": odd.get("torch", "2.9.1"),
        "numpy": odd.get("numpy", "2.3.1"),
    }
    versions |= {f"package-{place:03}": f"1.{place}.0" for place in range(PACKAGES - len(versions))}
    lines += [
        f'{name} = {{ version = "{version}", installer = "pip", digest = "sha256:{hash_of(name + version)}" }}'
        for name, version in sorted(versions.items())
    ]
    lines += ["\n[requires]"]
    lines += [
        f'{name} = ["numpy>=1.26", "package-{place * 7 % 290:03}>=1.0,<2"]'
        for place, name in enumerate(sorted(versions))
    ]
    return "\n".join(lines), odd.get("environ", "")


def hash_of(text: str) -> str:
    """Return 64 hex digits that look like a digest."""
    return f"{random.Random(text).getrandbits(256):064x}"


def node(number: int, shared: str, environ: str, kernel: str) -> str:
    """Return a node's manifest."""
    chance = random.Random(number)
    pods = ", ".join(f'"veth{chance.getrandbits(32):08x}"' for _ in range(6))
    return (
        'schema = "envlock/1"\n\n[capture]\nenvlock = "0.1.0"\n'
        f'time = 2026-11-28T09:{number // 60 % 60:02}:{number % 60:02}Z\nsource = "live"\n\n'
        f'[digest]\nimage = "sha256:{hash_of("image")}"\nmachine = "sha256:{hash_of(str(number))}"\n\n'
        f'[host]\nkernel = "{kernel}"\narch = "x86_64"\ncpu = "AMD EPYC 9654 96-Core Processor"\n'
        f'cpu_level = "x86-64-v4"\nmemory_gib = {1510 + chance.randrange(3)}\nshm_gib = 755\nplatform = "linux"\n'
        f'memlock_kib = -1\ninterfaces = ["eth0", "ib0", {pods}]\n\n'
        f'{shared}\n\n[environ]\nCUDA_VISIBLE_DEVICES = "0,1,2,3,4,5,6,7"\nLD_LIBRARY_PATH = "/opt/hpcx/lib"\n'
        f'NCCL_SOCKET_IFNAME = "eth0"\nTMPDIR = "/scratch/node{number:05}"\n{environ}'
    )


def generate(folder: Path, count: int) -> None:
    """Write a fleet: most nodes on one stack, one to three on each of the others."""
    odd = {
        1 + (place * 997 + extra * 13) % count: place
        for place in range(len(ODD))
        for extra in range(1 + place % 3)
    }
    stacks = [stack(each) for each in (*ODD, {})]
    for number in range(1, count + 1):
        place = odd.get(number, len(ODD))
        kernel = ODD[place].get("kernel", "6.8.0-45-generic") if place < len(ODD) else "6.8.0-45-generic"
        (folder / f"node{number:05}.toml").write_text(node(number, *stacks[place], kernel), encoding="utf-8")


def measure(command: list[str]) -> tuple[float, float, float, str]:
    """Return wall seconds, CPU seconds, peak MiB and what was printed; exit code 1 is a fleet that differs."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(command, stdout=printed)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        assert os.waitstatus_to_exitcode(status) in (0, 1), command  # 1: the nodes differ, as they should
        process.returncode = 0
        printed.seek(0)
        said = printed.read().decode()
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, said


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, nargs="+", default=[1000, 3000, 10000])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--show", action="store_true", help="print the page of the largest fleet")
    options = parser.parse_args()
    print("| nodes | MiB of manifests | cat, s | fleet diff, s | CPU, s | ms a node | peak MiB | lines |")
    print("|---|---|---|---|---|---|---|---|")
    said = ""
    for count in options.nodes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            generate(folder, count)
            size = sum(entry.stat().st_size for entry in os.scandir(folder)) / 2**20
            reads, runs = [], []
            for _ in range(options.runs):
                reads.append(measure(["sh", "-c", f"cat {folder}/*.toml | wc -c"])[0])
                runs.append(measure([sys.executable, "-m", "envlock", "fleet", "diff", str(folder)]))
            wall, cpu, peak = (statistics.median(run[place] for run in runs) for place in range(3))
            said = runs[0][3]
            assert said.startswith(f"{count:,} nodes: "), said
            lines = len(said.splitlines())
            print(
                f"| {count:,} | {size:.0f} | {statistics.median(reads):.2f} | {wall:.2f} | {cpu:.2f} "
                f"| {wall * 1000 / count:.2f} | {peak:.0f} | {lines} |"
            )
    if options.show:
        print(said)


if __name__ == "__main__":
    main()
