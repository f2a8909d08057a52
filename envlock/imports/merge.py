"""How what several reports say becomes one manifest: the first word stands, gaps are filled, secrets go."""

from __future__ import annotations

import re
from typing import Any

from envlock.imports.facts import Facts
from envlock.probe.redact import mask_url

SECTIONS = ("host", "driver", "gpu", "container", "os", "python", "toolkit", "compiler", "library", "framework",
            "package", "requires", "environ")  # fmt: skip
_HOME = re.compile(
    r"/(?:home|Users)/[^/\s:;,\"']{1,64}(?=[/\s:;,\"']|\Z)|[A-Za-z]:\\Users\\[^\\\s:;,\"']{1,64}"
)
_LOCAL_CUDA = re.compile(r"\+cu(\d{2,3})(?:\Z|\.)")
_BUILD_CUDA = re.compile(r"(?:\A|_)cuda_?(\d{1,2}\.\d|\d{3})(?:\.\d{1,4})?(?=_|h|py|\Z)")
_BUILD_CUDNN = re.compile(r"_cudnn(\d[\d.]{0,12})(?:_|\Z)")
_CONDA_NAMES = {
    "torch": "pytorch",
    "tables": "pytables",
    "opencv-python": "py-opencv",
    "matplotlib": "matplotlib-base",
}
"""Projects whose conda package has another name."""


def merge(whole: Facts, part: Facts) -> None:
    """Unite a report's facts with those that are there already, which stand."""
    for key, value in part.items():
        held = whole.get(key)
        if held is None:
            whole[key] = value
        elif key == "gpu":
            _unite_gpus(held, value)
        elif key == "toolkit":
            _unite_toolkits(held, value)
        elif key == "library":
            _unite_libraries(held, value)
        elif isinstance(held, dict) and isinstance(value, dict):
            merge(held, value)


def finish(whole: Facts) -> Facts:
    """Return the manifest: names that were cut dropped, what follows from a fact added, secrets masked."""
    _drop_cut_names(whole)
    _one_record_a_package(whole)
    _torch_from_packages(whole)
    _python_from_conda(whole)
    capture: Facts = {"source": "import"}
    unobserved = whole.get("capture", {}).get("unobserved", {})
    if unobserved and "driver" not in whole:
        capture["unobserved"] = unobserved
    manifest: Facts = {"schema": "envlock/1", "capture": capture}
    for section in SECTIONS:
        if whole.get(section):
            manifest[section] = _clean(whole[section])
    if "package" in manifest:
        manifest["package"] = {
            name: dict(sorted(table.items())) for name, table in manifest["package"].items()
        }
    return manifest


def _unite_gpus(held: list[Facts], more: list[Facts]) -> None:
    for card in more:
        same = next((kind for kind in held if _same_name(kind.get("name"), card.get("name"))), None)
        if same is None and len(held) == 1 and ("name" not in card or "name" not in held[0]):
            same = held[0]
        if same is None:
            continue
        if str(same.get("name", "...")).endswith("...") and "name" in card:
            same["name"] = card["name"]
        for key, value in card.items():
            same.setdefault(key, value)


def _same_name(one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return False
    one, other = (re.sub(r"\ANVIDIA ", "", name) for name in (one, other))
    if one.endswith("...") or other.endswith("..."):
        stem = min(one.rstrip(". "), other.rstrip(". "), key=len)
        return one.startswith(stem) and other.startswith(stem)
    return one == other


def _unite_toolkits(held: list[Facts], more: list[Facts]) -> None:
    for entry in more:
        same = next((kit for kit in held if _same_toolkit(kit, entry)), None)
        if same is not None:
            for key, value in entry.items():
                same.setdefault(key, value)
        elif "path" in entry:
            # Which of two is active, the report that came first has said.
            entry.pop("active", None)
            held.append(entry)


def _same_toolkit(one: Facts, other: Facts) -> bool:
    if "path" in one and "path" in other:
        return bool(one["path"] == other["path"])
    return f"{one['version']}.".startswith(f"{other['version']}.") or f"{other['version']}.".startswith(
        f"{one['version']}."
    )


def _unite_libraries(held: list[Facts], more: list[Facts]) -> None:
    for entry in more:
        same = next((copy for copy in held if copy["name"] == entry["name"] and copy.get("path") == entry.get("path")
                     and ("path" in entry or copy.get("version") == entry.get("version"))), None)  # fmt: skip
        if same is None:
            held.append(entry)
        else:
            for key, value in entry.items():
                same.setdefault(key, value)


def _drop_cut_names(whole: Facts) -> None:
    kinds = whole.get("gpu", [])
    for kind in kinds:
        if str(kind.get("name", "")).endswith("..."):
            del kind["name"]
    whole["gpu"] = [kind for kind in kinds if kind]


def _one_record_a_package(whole: Facts) -> None:
    """Take from pip what conda lists in the same version: conda's packages leave a dist-info that pip lists too."""
    package = whole.get("package", {})
    conda, pip = package.get("conda", {}), package.get("pip", {})
    for name in list(pip):
        record = conda.get(name) or conda.get(_CONDA_NAMES.get(name, "")) or conda.get(name.replace("-", "_"))
        version = pip[name].get("version")
        if record and version and record.get("version") == version.partition("+")[0] and len(pip[name]) == 1:
            del pip[name]
    if "pip" in package and not pip:
        del package["pip"]


def _torch_from_packages(whole: Facts) -> None:
    """Add what torch's package says of its build: +cu124 is PyTorch's own spelling of CUDA 12.4, +cpu of none."""
    package = whole.get("package", {})
    pip, conda = package.get("pip", {}).get("torch", {}), package.get("conda", {}).get("pytorch", {})
    version = pip.get("version") or conda.get("version")
    if version is None and "torch" not in whole.get("framework", {}):
        return
    torch = whole.setdefault("framework", {}).setdefault("torch", {})
    if version and torch.setdefault("version", version).partition("+")[0] == version.partition("+")[0]:
        source = _source(version if pip.get("version") else None, package)
        if source:
            torch.setdefault("source", source)
    local = _LOCAL_CUDA.search(torch.get("version", ""))
    if local:
        torch.setdefault("cuda", f"{local.group(1)[:-1]}.{local.group(1)[-1]}")
    elif torch.get("version", "").endswith("+cpu"):
        torch.setdefault("cuda", "")
    if torch.get("source") == "conda":
        _torch_from_build(torch, conda.get("build", ""))
    if not torch:
        del whole["framework"]["torch"]


def _source(pip_version: str | None, package: Facts) -> str | None:
    """Tell who installed torch; `pip list` alone does not, since it lists conda's packages as well."""
    if pip_version is None:
        return "conda"
    wheels = any(name.startswith("nvidia-") for name in package["pip"])
    return "pip" if "+" in pip_version or wheels or package.get("conda") else None


def _torch_from_build(torch: Facts, build: str) -> None:
    """Read py3.11_cuda12.4_cudnn9.1.0_0 (channel pytorch) and cuda126_py312h..._306 (conda-forge)."""
    cuda = _BUILD_CUDA.search(build)
    if cuda:
        number = cuda.group(1)
        torch.setdefault("cuda", number if "." in number else f"{number[:-1]}.{number[-1]}")
        cudnn = _BUILD_CUDNN.search(build)
        if cudnn:
            torch.setdefault("cudnn", cudnn.group(1))
    elif re.search(r"(?:\A|_)cpu(?:_|\Z)", build):
        torch.setdefault("cuda", "")


def _python_from_conda(whole: Facts) -> None:
    version = whole.get("package", {}).get("conda", {}).get("python", {}).get("version", "")
    if re.fullmatch(r"\d\.\d{1,2}\.\d{1,3}", version):
        whole.setdefault("python", {}).setdefault("version", version)


def _clean(value: Any) -> Any:
    """Mask secrets and users' home folders in every text below a value."""
    if isinstance(value, dict):
        return {key: _clean(inner) for key, inner in value.items() if len(key) < 16 or mask_url(key) == key}
    if isinstance(value, list):
        return [_clean(inner) for inner in value]
    if isinstance(value, str):
        if not value.isprintable():
            value = "".join(letter if letter.isprintable() else "\ufffd" for letter in value)
        return _HOME.sub("~", mask_url(value)) if len(value) >= 10 else value
    return value
