"""How this process is contained, what its image asks of the driver, and the host's container toolkit.

The variables and their meaning are those of nvidia-container-toolkit (internal/config/image) and
libnvidia-container (src/cli/dsl.c). No container id and no host name is recorded.
"""

import re
from typing import List, Mapping, Optional

from envlock.probe.observation import Observation
from envlock.probe.root import Root, UnobservableError, try_read

# In the control group's path or in a mount's: the engine's own name, with an id that is not kept.
_CGROUP = (
    ("kubernetes", re.compile(r"/kubepods|/kubelet")),
    ("docker", re.compile(r"/docker[-/][0-9a-f]{12}|/docker/(?:containers|buildkit)/")),
    ("podman", re.compile(r"/libpod[-_]")),
    ("containerd", re.compile(r"/containerd[-/]|cri-containerd|/run/containerd/io\.containerd")),
    ("lxc", re.compile(r"/lxc(?:\.payload)?[./]")),
)
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
"""What Go's strconv.ParseBool takes for true."""

_MOST_TERMS = 512
_ENGINES = ("docker", "dockerd", "podman", "containerd", "crio")


def read_container(root: Root) -> Observation:
    """Read [container]: of a live machine how it contains us, of an image what its variables ask."""
    seen = Observation()
    table = seen.table("container")
    runtime = find_runtime(root) if root.kind != "image" else None
    if runtime:
        table["runtime"] = runtime
    environ = root.environ
    # On a bare machine CUDA_VERSION is anybody's variable; in an image it is the legacy way to ask.
    contained = runtime is not None or root.kind != "live"
    require = requirement(environ, legacy=contained)
    if require:
        table["require"] = require
    devices = environ.get("NVIDIA_VISIBLE_DEVICES")
    if devices is None and contained and _is_legacy(environ):
        devices = "all"
    if devices is not None:
        from envlock.probe.environ import clean_value

        table["visible_devices"] = clean_value("NVIDIA_VISIBLE_DEVICES", devices, "")
    capabilities = environ.get("NVIDIA_DRIVER_CAPABILITIES")
    if capabilities is not None:
        table["driver_capabilities"] = capabilities[:256]
    if root.kind != "image" and runtime is None:
        toolkit = _toolkit_version(root)
        if toolkit is not None:
            table["toolkit"] = toolkit
    if not table:
        del seen.facts["container"]
    return seen


def find_runtime(root: Root) -> Optional[str]:
    """Name what contains this process: kubernetes, docker, podman, apptainer, lxc ...; None on a bare machine."""
    environ = root.environ
    for prefix, runtime in (("APPTAINER_", "apptainer"), ("SINGULARITY_", "singularity")):
        if prefix + "CONTAINER" in environ or prefix + "NAME" in environ:
            return runtime
    if root.is_dir("/.singularity.d"):
        return "apptainer"
    if environ.get("KUBERNETES_SERVICE_HOST") or root.is_dir("/var/run/secrets/kubernetes.io"):
        return "kubernetes"
    groups = (try_read(root, "/proc/self/cgroup", 1 << 18) or "") + (
        try_read(root, "/proc/1/cgroup", 1 << 18) or ""
    )
    if root.is_file("/run/.containerenv"):
        return "podman"
    for runtime, pattern in _CGROUP:
        if pattern.search(groups):
            return runtime
    if root.exists("/.dockerenv"):
        return "docker"
    mounts = try_read(root, "/proc/self/mountinfo", 1 << 20) or ""
    # With control groups v2 the path is only "/": the engine's folder shows in where /etc/hosts comes from.
    names = [line for line in mounts.splitlines() if " /etc/hosts " in line or " /etc/hostname " in line]
    for runtime, pattern in _CGROUP:
        if any(pattern.search(line) for line in names):
            return runtime
    known = environ.get("container", "")
    return known if known in ("lxc", "podman", "docker", "systemd-nspawn", "oci") else None


def requirement(environ: Mapping[str, str], legacy: bool = True) -> Optional[str]:
    """Return what an image demands of the driver, as one NVIDIA_REQUIRE_* expression.

    Every NVIDIA_REQUIRE_* variable (but those for JetPack) has to hold; the terms of one, set apart by
    spaces, are alternatives. Several are multiplied out into one. An image with CUDA_VERSION and
    without NVIDIA_REQUIRE_CUDA demands cuda>= that version. None when nothing is demanded, or when
    NVIDIA_DISABLE_REQUIRE says not to look.
    """
    if environ.get("NVIDIA_DISABLE_REQUIRE", "") in _TRUE:
        return None
    demands = [
        environ[name].split()
        for name in sorted(environ)
        if name.startswith("NVIDIA_REQUIRE_") and not name.startswith("NVIDIA_REQUIRE_JETPACK")
    ]
    if legacy and _is_legacy(environ):
        found = re.match(r"(\d+\.\d+)", environ["CUDA_VERSION"])
        demands.append(["cuda>=" + found.group(1)] if found else [])
    terms: List[str] = []
    for demand in demands:
        if not demand:
            continue
        terms = [f"{left},{right}" for left in terms for right in demand] if terms else demand
        terms = terms[:_MOST_TERMS]
    return " ".join(terms) or None


def _is_legacy(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("CUDA_VERSION")) and "NVIDIA_REQUIRE_CUDA" not in environ


def _toolkit_version(root: Root) -> Optional[str]:
    """Return the container toolkit's version; "" where a container engine is there without it; else None."""
    program = next((path for path in ("/usr/bin/nvidia-ctk", "/usr/local/nvidia/toolkit/nvidia-ctk")
                    if root.exists(path)), None)  # fmt: skip
    if program is None:
        engines = any(root.exists(f"/usr/bin/{name}") for name in _ENGINES)
        return "" if engines and root.kind == "live" else None
    if root.kind == "live":
        try:
            found = re.search(
                r"version (\d+\.\d+\.\d+(?:-rc\.\d+)?)", root.run([program, "--version"], timeout=2.0)
            )
        except UnobservableError:
            found = None
        if found:
            return found.group(1)
    status = try_read(root, "/var/lib/dpkg/status", 64 << 20) or ""
    at = status.find("\nPackage: nvidia-container-toolkit\n")
    found = re.search(
        r"^Version: (?:\d+:)?(\d+\.\d+\.\d+)", status[at + 1 : at + 4096].split("\n\n")[0], re.M
    )
    return found.group(1) if found and at >= 0 else None
