"""What a preflight adds to a job's start on one node besides its capture, in jobs that torchrun starts.

python benchmarks/preflight.py PREFIX [--ranks 2 4] [--runs 5]

PREFIX holds torch (the CPU wheel will do) and envlock. The kinds of job take turns. The ranks have imported torch, as
every training script does, and begin together; what is measured is the import of envlock.preflight, as -m has it, and
the comparison. "added" is the longest of a job's ranks without its own capture, medians over the runs; CPU seconds are
one rank's, which a machine that is busy with other things does not change much.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile

JOB = """
import json, os, sys, time
import torch.distributed as dist
if "--apart" in sys.argv:
    os.environ["APART"] = os.environ["RANK"]  # each rank captures for itself, as one a node would
if "--group" in sys.argv:
    dist.init_process_group("gloo")
# Ranks begin together, so that none waits for another one's import of torch; one machine has one such clock.
time.sleep(10 - time.monotonic() % 10)
begin, cpu = time.monotonic(), time.process_time()
import envlock.preflight
captured, capture_cpu = 0.0, 0.0
capture = envlock.capture
def timed(**options):
    global captured, capture_cpu
    start, used = time.monotonic(), time.thread_time()
    try:
        return capture(**options)
    finally:
        captured, capture_cpu = time.monotonic() - start, time.thread_time() - used
envlock.capture = timed
assert envlock.preflight().verdict == "fine"
whole, cpu = time.monotonic() - begin, time.process_time() - cpu
if not dist.is_initialized():
    dist.init_process_group("gloo")
dist.barrier()
sys.stdout.write(json.dumps({"whole": whole, "capture": captured, "cpu": cpu - capture_cpu}) + "\\n")
dist.destroy_process_group()
"""


def run(prefix, ranks, script, *arguments):
    """Return of a job the longest preflight, the longest capture, what is left of the first, and CPU seconds."""
    command = [
        f"{prefix}/bin/python",
        "-m",
        "torch.distributed.run",
        f"--nproc-per-node={ranks}",
        script,
        *arguments,
    ]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True, check=True
    )
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(told) == ranks, done.stdout
    whole, capture, cpu = (max(each[name] for each in told) for name in ("whole", "capture", "cpu"))
    return whole, capture, whole - capture, cpu


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prefix")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    kinds = {"over torchrun's": [], "over a group": ["--group"], "one a place": ["--apart"]}
    with tempfile.TemporaryDirectory() as folder:
        script = os.path.join(folder, "job.py")
        with open(script, "w", encoding="utf-8") as file:
            file.write(JOB)
        print("medians in seconds       preflight   capture     added   added, CPU")
        for ranks in options.ranks:
            run(options.prefix, ranks, script)  # what was read of big files is kept from here on
            took = {kind: [] for kind in kinds}
            for _ in range(options.runs):
                for kind, arguments in kinds.items():
                    took[kind].append(run(options.prefix, ranks, script, *arguments))
            for kind, runs in took.items():
                whole, capture, added, cpu = map(statistics.median, zip(*runs, strict=True))
                figures = f"{whole:9.3f} {capture:9.3f} {added:9.3f} {cpu:12.3f}"
                print(f"{ranks} ranks, {kind:<15}{figures}", flush=True)


if __name__ == "__main__":
    main()
