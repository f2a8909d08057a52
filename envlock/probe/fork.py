"""Work in a forked child, beside what the caller does: a capture waits for the longer part, not for both."""

import json
import os
import sys
from typing import Any, Callable


def beside(work: Callable[[], Any]) -> Callable[[], Any]:
    """Start work, whose answer is plain JSON, in a forked child; return how to fetch the answer.

    Where nothing would be won or forking is not safe (one processor, other threads) and where the child does not
    answer (it was killed, it raised), the work is done by the caller when the answer is fetched.
    """
    if not _is_worthwhile():
        return work
    try:
        mine, theirs = os.pipe()
    except OSError:
        return work
    try:
        child = os.fork()
    except OSError:
        os.close(mine)
        os.close(theirs)
        return work
    if child == 0:
        os.close(mine)  # or a child whose parent was killed would wait for itself to read
        _answer(work, theirs)
    os.close(theirs)

    def fetch() -> Any:
        with open(mine, "rb") as pipe:
            content = pipe.read()
        try:
            _, status = os.waitpid(child, 0)
        except ChildProcessError:  # the caller ignores SIGCHLD: nobody tells how the child ended
            status = 0
        try:
            return json.loads(content) if status == 0 else work()
        except (ValueError, RecursionError):
            return work()

    return fetch


def _is_worthwhile() -> bool:
    threads = sys.modules.get("threading")
    if not hasattr(os, "fork") or (threads is not None and threads.active_count() > 1):
        return False
    try:
        return len(os.sched_getaffinity(0)) > 1
    except (AttributeError, OSError):  # not on every system
        return (os.cpu_count() or 1) > 1


def _answer(work: Callable[[], Any], pipe: int) -> None:
    """Do the work, write the answer into the pipe and end, without the caller's handlers and buffers."""
    status = 1
    try:
        content = json.dumps(work()).encode("ascii")
        with open(pipe, "wb") as file:
            file.write(content)
        status = 0
    finally:
        os._exit(status)
