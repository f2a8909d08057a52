"""Asks a libcuda which CUDA it supports, and on request which GPUs it sees; prints one JSON object.

Run on its own in a child process: ``python -I -S -c <this source> <file or soname> [devices]``.
cuDriverGetVersion needs no cuInit; "devices" calls cuInit, for machines without NVML (Jetson). No
context is made either way.

The answer: {"cuda": 12080, "gpus": [{"name": ..., "memory": bytes, "cc": [8, 7]}, ...]}; or
{"unobservable": reason}.
"""

import json
import os
import sys
from typing import Any, Dict, List


def ask(path: str, devices: bool) -> Dict[str, Any]:
    """Return libcuda's answers; raises OSError with the loader's or libcuda's reason."""
    import ctypes

    cuda = ctypes.CDLL(path)
    number = ctypes.c_int(0)
    code = cuda.cuDriverGetVersion(ctypes.byref(number))
    if code == 34:  # CUDA_ERROR_STUB_LIBRARY
        raise OSError("libcuda is the toolkit's stub")
    if code:
        raise OSError(f"cuDriverGetVersion answered error {code}")
    answer: Dict[str, Any] = {"cuda": number.value}
    if devices:
        code = cuda.cuInit(0)
        if code:
            answer["trouble"] = f"cuInit answered error {code}"
        else:
            answer["gpus"] = list_devices(ctypes, cuda)
    return answer


def list_devices(ctypes: Any, cuda: Any) -> List[Dict[str, Any]]:
    """Return name, memory and compute capability of each device; attributes 75 and 76 are cc major and minor."""
    count = ctypes.c_int(0)
    gpus: List[Dict[str, Any]] = []
    if cuda.cuDeviceGetCount(ctypes.byref(count)):
        return gpus
    for index in range(min(max(count.value, 0), 256)):
        device, major, minor = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0)
        gpu: Dict[str, Any] = {}
        if cuda.cuDeviceGet(ctypes.byref(device), index):
            continue
        name = ctypes.create_string_buffer(1024)
        if cuda.cuDeviceGetName(name, 256, device) == 0:
            gpu["name"] = name.raw[:256].split(b"\0")[0].decode("utf-8", "replace")
        memory = ctypes.c_size_t(0)
        if cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device) == 0:
            gpu["memory"] = memory.value
        codes = [
            cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device),
            cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device),
        ]
        if not any(codes):
            gpu["cc"] = [major.value, minor.value]
        gpus.append(gpu)
    return gpus


def main() -> None:
    """Answer on the stdout of the start, whatever libcuda itself prints."""
    stdout = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        answer = ask(sys.argv[1], "devices" in sys.argv[2:])
    except (OSError, AttributeError) as error:
        answer = {"unobservable": f"libcuda: {str(error)[:300]}"}
    os.write(stdout, json.dumps(answer).encode())


main()
