"""A program: reads jobs as lines of JSON, forks one process for each rank, answers with what became of them."""

import json
import os
import signal
import sys
import tempfile
import time
import traceback

import torch.distributed
import torch.distributed.distributed_c10d  # noqa: F401


def rank(code, environ, out):
    for number in (1, 2):
        os.dup2(out, number)
    os.environ.update(environ)
    try:
        exec(compile(code, "<rank>", "exec"), {"__name__": "__main__"})
        status = 0
    except SystemExit as error:
        status = error.code or 0
    except BaseException:  # noqa: BLE001 - as the interpreter would end
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def job(ranks, limit):
    started = []
    for each in ranks:
        out = tempfile.TemporaryFile()  # noqa: SIM115 - read when the rank has ended
        pid = os.fork()
        if not pid:
            rank(each["code"], each["environ"], out.fileno())
        started.append((pid, out, time.monotonic()))
    return [ended(pid, out, begin, begin + limit) for pid, out, begin in started]


def ended(pid, out, begin, until):
    killed = False
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > until and not killed:
            os.kill(pid, signal.SIGKILL)
            killed = True
        time.sleep(0.01)
    out.seek(0)
    text = out.read().decode("utf-8", "replace")
    return {"exit": None if killed else os.waitstatus_to_exitcode(status), "out": text}


for line in sys.stdin:
    print(json.dumps(job(**json.loads(line))), flush=True)
