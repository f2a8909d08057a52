"""What a preflight adds to a job's start on one node: the parts of it, in jobs that torchrun starts.

python benchmarks/preflight.py PREFIX [--ranks 2 4] [--runs 5]

PREFIX holds torch (the CPU wheel will do) and envlock. The kinds of job take turns. The ranks
begin their preflight together, and print how long it took and what of it was capture.
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
begin = time.monotonic()
captured = 0.0
if "--preflight" in sys.argv:
    import envlock
    capture = envlock.capture
    def timed(**options):
        global captured
        start = time.monotonic()
        try:
            return capture(**options)
        finally:
            captured = time.monotonic() - start
    envlock.capture = timed
    if "--apart" in sys.argv:
        os.environ["APART"] = os.environ["RANK"]  # each rank captures for itself, as one a node would
    if "--group" in sys.argv:
        dist.init_process_group("gloo")
    # Ranks begin together, so that none waits for another one's import of torch; one machine has one such clock.
    time.sleep(10 - time.monotonic() % 10)
    begin = time.monotonic()
    assert envlock.preflight().verdict == "fine"
over = time.monotonic()
if not dist.is_initialized():
    dist.init_process_group("gloo")
dist.barrier()
sys.stdout.write(json.dumps({"preflight": over - begin, "capture": captured}) + "\\n")
dist.destroy_process_group()
"""


def run(prefix, ranks, script, *arguments):
    """Return the longest preflight and the longest capture of a job's ranks, in seconds."""
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
    return max(each["preflight"] for each in told), max(each["capture"] for each in told)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prefix")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    kinds = {"over torchrun's": ["--preflight"], "over a group": ["--preflight", "--group"],
             "one a place": ["--preflight", "--apart"]}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        script = os.path.join(folder, "job.py")
        with open(script, "w", encoding="utf-8") as file:
            file.write(JOB)
        print("medians in seconds       preflight   of it capture   the rest")
        for ranks in options.ranks:
            run(
                options.prefix, ranks, script, "--preflight"
            )  # what was read of big files is kept from here on
            took = {kind: [] for kind in kinds}
            for _ in range(options.runs):
                for kind, arguments in kinds.items():
                    took[kind].append(run(options.prefix, ranks, script, *arguments))
            for kind, runs in took.items():
                whole, capture = (statistics.median(column) for column in zip(*runs, strict=True))
                rest = statistics.median(each[0] - each[1] for each in runs)
                print(
                    f"{ranks} ranks, {kind:<13} {whole:11.3f} {capture:15.3f} {rest:10.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
