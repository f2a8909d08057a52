"""``python -m tests.fuzz [--seconds N] [NAME ...]``: run readers under atheris and keep what taught it something.

What it learns goes to .fuzz/NAME, which the next run starts from; an input that breaks a reader goes to
tests/fuzz/corpus/NAME, where the usual tests give it to the reader from then on. ``--keep`` puts the smallest part of
what was learnt there as well. Needs atheris (``pip install atheris``). With ``--by-chance`` inputs are changed blindly
instead, which tries many more of them in a second.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import time
import traceback
from pathlib import Path

from tests.fuzz.corpus import FOLDER, changed, kept

TOP = FOLDER.parent.parent.parent
LEARNT = TOP / ".fuzz"
KEPT_BYTES = 24 * 1024
"""Bytes kept of one reader at most."""


def main():
    names = sorted(path.name for path in FOLDER.iterdir())
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--seconds", type=int, default=60, help="for each reader (60)")
    parser.add_argument("--runs", type=int, default=0, help="end a reader earlier, after so many executions")
    parser.add_argument("--by-chance", action="store_true", help="change inputs blindly, without atheris")
    parser.add_argument("--seed", type=int, default=0, help="of --by-chance; another one makes other inputs")
    parser.add_argument(
        "--keep", action="store_true", help="put the smallest part of what was learnt into corpus/"
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given, more = parser.parse_known_args()
    if given.child:
        _fuzz(given.names[0], more)
    failed = False
    for name in given.names or names:
        if given.keep:
            _keep(name)
        else:
            if given.by_chance:
                runs, text = _run_by_chance(name, given.seconds, given.runs or sys.maxsize, given.seed)
            else:
                runs, text = _run(name, [f"-max_total_time={given.seconds}", f"-runs={given.runs or -1}"])
            print(f"{name}\t{runs}\t{text}", flush=True)
            failed |= text != "nothing found"
    sys.exit(1 if failed else 0)


def _run(name, arguments):
    """Fuzz one reader in a process of its own; return the executions and what was found."""
    folder = LEARNT / name
    folder.mkdir(parents=True, exist_ok=True)
    _write_words(LEARNT / f"{name}.dict", name)
    # The second folder is read and never written to; inputs that break it are named crash-, timeout- or oom-SHA1.
    command = [sys.executable, "-m", "tests.fuzz", "--child", name, *arguments]
    command += [f"-artifact_prefix={FOLDER / name}/", f"-dict={LEARNT / name}.dict", "-timeout=10", "-rss_limit_mb=2048",
                "-max_len=16384", str(folder), str(FOLDER / name)]  # fmt: skip
    done = subprocess.run(command, cwd=TOP, capture_output=True, check=False)
    (LEARNT / f"{name}.log").write_bytes(done.stdout + done.stderr)
    told = (done.stdout + done.stderr).decode("utf-8", "replace")
    counts = re.findall(r"^(?:stat::number_of_executed_units:\s*|Done |#)(\d+)", told, re.M)
    if done.returncode == 0:
        return int(counts[-1]), "nothing found"
    error = re.findall(
        r"^(?:ERROR: libFuzzer: .*|\s*(?:\w+\.)*\w*(?:Error|Exception|Warning)\b.*)$", told, re.M
    )
    return int(counts[-1]) if counts else 0, " | ".join(error[:3])[:300] or f"exit code {done.returncode}"


def _run_by_chance(name, seconds, runs, seed):
    """Give a reader changed inputs for a while; return the executions and what was found."""
    from tests.fuzz.readers import READERS

    learnt = [path.read_bytes() for path in (LEARNT / name).iterdir()] if (LEARNT / name).is_dir() else []
    end, count, found = time.monotonic() + seconds, 0, set()
    for data in changed(name, runs, seed, learnt):
        count += 1
        try:
            READERS[name](data)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            place = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {error} ({place.name}, line {place.lineno})"[:200]
            if (place.name, place.lineno) not in found:
                found.add((place.name, place.lineno))
                print(f"{name}: {what}", file=sys.stderr)
                (FOLDER / name / f"crash-{hashlib.sha1(data).hexdigest()}").write_bytes(data)
        if count % 64 == 0 and time.monotonic() > end:
            break
    return count, f"{len(found)} findings" if found else "nothing found"


def _write_words(path, name):
    """Write libFuzzer's dictionary: the words of the kept inputs."""
    words = {word for data in kept(name) for word in re.findall(rb"[A-Za-z_][\w.-]{2,30}", data)}
    path.write_text("".join(f'"{word.decode()}"\n' for word in sorted(words)[:400]))


def _fuzz(name, arguments):
    import atheris

    with atheris.instrument_imports(include=["envlock"], enable_loader_override=False):
        from tests.fuzz.readers import READERS
    read = READERS[name]
    for data in kept(name):
        read(data)  # what is imported when first needed is instrumented as well
    atheris.Setup([sys.argv[0], *arguments], read)
    atheris.Fuzz()


def _keep(name):
    """Choose of what was learnt, smallest first, what covers most; libFuzzer's own merge does it."""
    chosen = LEARNT / f"{name}.kept"
    chosen.mkdir(exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "tests.fuzz",
        "--child",
        name,
        "-merge=1",
        str(chosen),
        str(FOLDER / name),
        str(LEARNT / name),
    ]
    subprocess.run(command, cwd=TOP, capture_output=True, check=True)
    held = set(kept(name))
    left = KEPT_BYTES - sum(map(len, held))
    for path in sorted(chosen.iterdir(), key=os.path.getsize):
        data = path.read_bytes()
        if data not in held and len(data) <= left:
            left -= len(data)
            (FOLDER / name / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    main()
