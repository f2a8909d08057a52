"""CUDA toolkits: which are installed, their versions, and the one that a build would use."""

import json
import re
from typing import Dict, List, NamedTuple, Optional, Tuple

from envlock.probe.observation import Observation
from envlock.probe.root import Root, UnobservableError, try_read

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NVCC_LIMIT = 128 * 1024 * 1024
"""Bytes of nvcc that are searched at most; it has 10 to 30 MB."""


class Toolkit(NamedTuple):
    """One toolkit; the version is nvcc's own (12.4.131) where it can be told, else the release (12.4)."""

    path: str
    version: Optional[str]
    active: bool


def read_toolkits(root: Root) -> Observation:
    """Read [[toolkit]]: each real folder once, in order of version, then path."""
    seen = Observation()
    toolkits = find_toolkits(root)
    if toolkits:
        seen.facts["toolkit"] = [_entry(toolkit) for toolkit in toolkits]
    for toolkit in toolkits:
        if toolkit.version is None:
            seen.unobserved["toolkit.version"] = f"{toolkit.path} tells no version"
    return seen


def find_toolkits(root: Root) -> List[Toolkit]:
    """Find the toolkits in the usual folders, in CUDA_HOME and CUDA_PATH, and around PATH's nvcc."""
    active = active_folder(root)
    folders: Dict[str, None] = {}
    for path in [active, *_usual(root)]:
        if path is not None:
            folders.setdefault(root.realpath(path))
    toolkits = [
        Toolkit(path, read_version(root, path), path == active) for path in folders if _is_toolkit(root, path)
    ]
    return sorted(toolkits, key=lambda toolkit: (_order(toolkit.version), toolkit.path))


def active_folder(root: Root) -> Optional[str]:
    """Return the real folder that CUDA_HOME, else CUDA_PATH, else PATH's nvcc, else /usr/local/cuda selects."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        value = root.environ.get(name, "")
        if value.startswith("/"):
            return root.realpath(value)
    nvcc = find_program(root, "nvcc")
    if nvcc is not None:
        return _home_of(root, nvcc)
    return root.realpath("/usr/local/cuda") if root.is_dir("/usr/local/cuda") else None


def find_program(root: Root, name: str, skip: str = "") -> Optional[str]:
    """Return the first file of this name on PATH (the usual folders where PATH is not known).

    ``skip`` names a program whose links do not count: ccache stands in for compilers.
    """
    for folder in root.environ.get("PATH", DEFAULT_PATH).split(":")[:256]:
        path = f"{folder.rstrip('/')}/{name}"
        if not folder.startswith("/") or not root.is_file(path):
            continue
        if not skip or root.realpath(path).rsplit("/", 1)[1] != skip:
            return path
    return None


def read_version(root: Root, folder: str) -> Optional[str]:
    """Return a toolkit's version from version.json, version.txt, nvcc's text or the headers."""
    try:
        told = json.loads(try_read(root, folder + "/version.json", 1 << 20) or "{}")
    except (ValueError, RecursionError):
        told = {}
    for key in ("cuda_nvcc", "cuda"):
        part = told.get(key) if isinstance(told, dict) else None
        version = part.get("version") if isinstance(part, dict) else None
        if isinstance(version, str) and re.match(r"\d{1,3}\.\d{1,3}(?:\.\d{1,9})?\Z", version):
            # Some releases give their date as the third part: 12.2.20230823.
            return re.sub(r"\.\d{6,}\Z", "", version)
    found = re.match(
        r"CUDA Version (\d+\.\d+(?:\.\d+)?)", try_read(root, folder + "/version.txt", 4096) or ""
    )
    if found:
        return found.group(1)
    return _nvcc_version(root, folder + "/bin") or _header_version(root, folder)


def _usual(root: Root) -> List[str]:
    folders = ["/opt/cuda", "/usr/lib/cuda", "/usr/lib/nvidia-cuda-toolkit"]
    for parent in ("/usr/local", "/opt"):
        try:
            names = [entry.name for entry in root.scan(parent) if entry.is_dir]
        except OSError:
            names = []
        folders += [f"{parent}/{name}" for name in names if re.match(r"cuda(?:-\d[\d.]*)?\Z", name)]
    return folders


def _is_toolkit(root: Root, folder: str) -> bool:
    """Tell a toolkit from a folder that only has its libraries, as runtime images have."""
    marks = ("bin/nvcc", "version.json", "version.txt", "include/cuda.h", "include/cuda_runtime_api.h")
    return any(root.is_file(f"{folder}/{mark}") for mark in marks)


def _home_of(root: Root, nvcc: str) -> str:
    """Return the toolkit that an nvcc belongs to; distributions put a script in its place that calls the real one."""
    real = root.realpath(nvcc)
    try:
        with root.open(real) as file:
            head = file.read(4096)
    except OSError:
        head = b""
    if head[:2] == b"#!":
        found = re.search(rb"(/[\w./+-]{1,500}/bin/nvcc)\b", head)
        if found:
            real = root.realpath(found.group(1).decode())
    return real.rsplit("/", 2)[0] or "/"


def _nvcc_version(root: Root, folder: str) -> Optional[str]:
    """Return nvcc's version from the text that its programs print ("V12.4.131"), else by asking nvcc.

    bin2c and fatbinary come in one package with nvcc, carry the same text and are hundreds of times smaller.
    """
    if not root.is_file(folder + "/nvcc"):
        return None
    for name in ("bin2c", "fatbinary", "nvcc"):
        try:
            content = root.read(f"{folder}/{name}", NVCC_LIMIT)
        except OSError:
            continue
        found = re.search(rb"release \d{1,2}\.\d{1,2}, V(\d{1,2}\.\d{1,2}\.\d{1,4})", content)
        if found:
            return found.group(1).decode()
    try:
        told = re.search(
            r"\bV(\d{1,2}\.\d{1,2}\.\d{1,4})\b", root.run([folder + "/nvcc", "--version"], timeout=3.0)
        )
    except UnobservableError:
        return None
    return told.group(1) if told else None


def _header_version(root: Root, folder: str) -> Optional[str]:
    for header, name in (("cuda.h", "CUDA_VERSION"), ("cuda_runtime_api.h", "CUDART_VERSION")):
        text = try_read(root, f"{folder}/include/{header}", 4 << 20) or ""
        found = re.search(rf"^#define\s+{name}\s+(\d{{4,6}})\s", text, re.M)
        if found:
            number = int(found.group(1))
            return f"{number // 1000}.{number % 1000 // 10}"
    return None


def _order(version: Optional[str]) -> Tuple[int, ...]:
    return tuple(int(part) for part in (version or "0").split("."))


def _entry(toolkit: Toolkit) -> Dict[str, object]:
    entry: Dict[str, object] = {"path": toolkit.path, "active": toolkit.active}
    if toolkit.version is not None:
        entry["version"] = toolkit.version
    return entry
