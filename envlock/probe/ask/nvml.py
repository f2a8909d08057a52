"""Asks NVML for the driver's version, its CUDA and its GPUs; prints one JSON object.

Run on its own in a child process: ``python -I -S -c <this source> [seconds]``. NVML is called in a
child of that child, which writes one answer a line, so that a driver that hangs or crashes half-way
costs only the answers that it did not give. No CUDA context is made.

The answer: {"driver": "570.86.15", "cuda": 12080, "gpus": [{"name": ..., "memory":
bytes, "cc": [9, 0], "mig": false}, ...], "count": 8, "trouble": reason}; what NVML did not answer is
left out, "trouble" says why it ended early. {"unobservable": reason} when it answered nothing.
"""

import json
import os
import select
import signal
import sys
import time
from typing import Any, Callable, Dict, List, Tuple

FOLDERS = (
    "/usr/lib/wsl/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib",
    "/usr/lib64/nvidia", "/usr/lib/x86_64-linux-gnu/nvidia/current", "/usr/local/nvidia/lib64", "/run/opengl-driver/lib",
)  # fmt: skip
ERRORS = {
    4: "no permission",
    9: "the driver's kernel module is not loaded",
    10: "a GPU's power cables are not attached",
    12: "the NVML library was not found",
    15: "a GPU has fallen off the bus",
    16: "the NVIDIA kernel module had an interrupt issue",
    17: "the NVIDIA kernel module holds another version",
    18: "the kernel module and the NVML library are of different versions",
    23: "the driver's user and kernel side cannot talk",
}
"""nvmlReturn_t of nvml.h, the ones that nvmlInit may answer."""

MOST_GPUS = 256


def load() -> Any:
    """Load NVML by its soname, else from the folders where drivers are known to put it."""
    import ctypes

    first = None
    for path in ["libnvidia-ml.so.1"] + [folder + "/libnvidia-ml.so.1" for folder in FOLDERS]:
        try:
            return ctypes.CDLL(path)
        except OSError as error:
            if first is None:
                first = str(error)
    raise OSError(first)


def interview(say: Callable[[str, object], object]) -> None:
    """Put every question to NVML; ``say`` takes a key and an answer as soon as it is there."""
    import ctypes

    try:
        nvml = load()
    except OSError as error:
        say("trouble", f"libnvidia-ml.so.1 cannot be loaded: {str(error)[:300]}")
        return

    def call(names: List[str], *arguments: Any) -> int:
        for name in names:
            function = getattr(nvml, name, None)
            if function is not None:
                return int(function(*arguments))
        return 13  # NVML_ERROR_FUNCTION_NOT_FOUND

    code = call(["nvmlInit_v2", "nvmlInit"])
    if code:
        say("trouble", f"NVML error {code}: {ERRORS.get(code, 'nvmlInit failed')}")
        return
    # Buffers are far larger than the length that is told, for libraries that write no final NUL.
    text = ctypes.create_string_buffer(1024)
    number = ctypes.c_int(0)
    if call(["nvmlSystemGetDriverVersion"], text, ctypes.c_uint(80)) == 0:
        say("driver", text.raw[:80].split(b"\0")[0].decode("utf-8", "replace"))
    if (
        call(["nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion"], ctypes.byref(number))
        == 0
    ):
        say("cuda", number.value)
    count = ctypes.c_uint(0)
    code = call(["nvmlDeviceGetCount_v2", "nvmlDeviceGetCount"], ctypes.byref(count))
    if code:
        say("trouble", f"NVML does not count the GPUs: error {code}")
        return
    if count.value > MOST_GPUS:
        say("trouble", f"NVML counts {count.value} GPUs, which cannot be")
        return
    say("count", count.value)
    for index in range(count.value):
        say("gpu", describe(ctypes, call, index))


def describe(ctypes: Any, call: Callable[..., int], index: int) -> Dict[str, object]:
    """Return what NVML tells of one GPU."""

    class Memory(ctypes.Structure):  # type: ignore[misc]
        _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))

    device = ctypes.c_void_p()
    gpu: Dict[str, object] = {}
    code = call(
        ["nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex"],
        ctypes.c_uint(index),
        ctypes.byref(device),
    )
    if code:
        gpu["trouble"] = f"NVML error {code}: {ERRORS.get(code, 'the GPU gives no handle')}"
        return gpu
    name = ctypes.create_string_buffer(1024)
    if call(["nvmlDeviceGetName"], device, name, ctypes.c_uint(96)) == 0:
        gpu["name"] = name.raw[:96].split(b"\0")[0].decode("utf-8", "replace")
    memory = Memory()
    if call(["nvmlDeviceGetMemoryInfo"], device, ctypes.byref(memory)) == 0:
        gpu["memory"] = memory.total
    major, minor = ctypes.c_int(0), ctypes.c_int(0)
    if call(["nvmlDeviceGetCudaComputeCapability"], device, ctypes.byref(major), ctypes.byref(minor)) == 0:
        gpu["cc"] = [major.value, minor.value]
    current, pending = ctypes.c_uint(0), ctypes.c_uint(0)
    code = call(["nvmlDeviceGetMigMode"], device, ctypes.byref(current), ctypes.byref(pending))
    if code in (0, 3):  # 3 is NVML_ERROR_NOT_SUPPORTED: this GPU cannot be divided
        gpu["mig"] = code == 0 and current.value == 1
    return gpu


def worker(pipe: int) -> None:
    """Interview NVML and write the answers into a pipe; never returns."""
    try:
        # Whatever the libraries print must not mix with the answer, nor keep its pipe open when they hang.
        sink = os.open(os.devnull, os.O_RDWR)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        interview(lambda key, value: os.write(pipe, (json.dumps([key, value]) + "\n").encode()))
        os.write(pipe, b'["end",true]\n')
    finally:
        os._exit(0)


def listen(pipe: int, seconds: float) -> Tuple[bytes, bool]:
    """Gather the worker's lines until it ends or the time is over; returns them and whether it was late."""
    deadline = time.monotonic() + seconds
    output = b""
    while len(output) < 1 << 20:
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return output, True
        piece = os.read(pipe, 65536)
        if not piece:
            break
        output += piece
    return output, False


def main() -> None:
    """Fork the worker, gather its answers within the time limit, print them."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        worker(writer)
    os.close(writer)
    output, late = listen(reader, seconds)
    answer: Dict[str, Any] = {}
    gpus = []
    ended = False
    for line in output.decode("utf-8", "replace").splitlines():
        try:
            key, value = json.loads(line)
        except ValueError:
            continue
        if key == "end":
            ended = True
        elif key == "gpu":
            gpus.append(value)
        else:
            answer[key] = value
    if "count" in answer:
        answer["gpus"] = gpus
    if late:
        os.kill(child, signal.SIGKILL)
        answer["trouble"] = f"NVML did not answer within {seconds:g} s"
    elif not ended:
        _, status = os.waitpid(child, 0)
        how = f"by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "early"
        answer["trouble"] = "NVML ended its process " + how
    if "trouble" in answer and "driver" not in answer and "cuda" not in answer and "count" not in answer:
        answer = {"unobservable": answer["trouble"]}
    print(json.dumps(answer))


main()
