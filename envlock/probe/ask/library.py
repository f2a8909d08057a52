"""Asks a CUDA library for its version by its own function; prints one JSON object.

Run on its own in a child process: ``python -I -S -c <this source> <file> <cudart|cudnn|nccl>``. None of the
functions needs a GPU or a driver, and none makes a context.

The answer: {"version": 12080} as the function gives it, and for cuDNN {"cudart": 13050} besides; or
{"unobservable": reason}.
"""

import json
import os
import sys
from typing import Dict


def ask(path: str, name: str) -> Dict[str, int]:
    """Return the library's answers; raises OSError or AttributeError with the loader's reason."""
    import ctypes

    library = ctypes.CDLL(path)
    if name == "cudnn":
        library.cudnnGetVersion.restype = ctypes.c_size_t
        answer = {"version": int(library.cudnnGetVersion())}
        try:
            library.cudnnGetCudartVersion.restype = ctypes.c_size_t
            answer["cudart"] = int(library.cudnnGetCudartVersion())
        except AttributeError:
            pass
        return answer
    function = {"cudart": "cudaRuntimeGetVersion", "nccl": "ncclGetVersion"}[name]
    number = ctypes.c_int(0)
    code = getattr(library, function)(ctypes.byref(number))
    if code or number.value <= 0:
        raise OSError(f"{function} answered error {code}")
    return {"version": number.value}


def main() -> None:
    """Answer on the stdout of the start, whatever the library itself prints."""
    stdout = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        answer = ask(sys.argv[1], sys.argv[2])
    except (OSError, AttributeError, KeyError, IndexError) as error:
        os.write(
            stdout, json.dumps({"unobservable": f"{' '.join(sys.argv[2:3])}: {str(error)[:300]}"}).encode()
        )
        return
    os.write(stdout, json.dumps(answer).encode())


main()
