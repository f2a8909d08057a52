"""Which builds of a framework exist, as the matrix has them, and the command that installs exactly one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from envlock.errors import EnvlockError
from envlock.manifest.versions import matches, release, series, specifier

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix

TORCH_INDEX = "https://download.pytorch.org/whl"
JAX_LINKS = "https://storage.googleapis.com/jax-releases/jax_cuda_releases.html"
ONNX_INDEX = (
    "https://aiinfra.pkgs.visualstudio.com/PublicPackages/_packaging/onnxruntime-cuda-{}/pypi/simple/"
)


class Build(msgspec.Struct, frozen=True, omit_defaults=True):
    """One build of a framework; what the matrix does not say of it is None, or empty text."""

    project: str
    version: str
    cuda: str
    """The CUDA that it is built with; "" for a CPU build."""
    install: str
    """The command that installs it with its companions."""
    companions: dict[str, str] = {}
    python: str = ""
    """The Pythons that it has wheels for, as a PEP 440 specifier."""
    glibc: str = ""
    archs: tuple[str, ...] | None = None
    """Compute capabilities that it holds machine code for: ("8.0", "9.0")."""
    ptx: tuple[str, ...] | None = None
    compiler_cuda: str = ""
    """The toolkit that it was compiled with: builds for all GPUs of it, where ``archs`` is not known."""
    capability: str = ""
    """The lowest compute capability that it supports, where that is all that is said."""
    brings_cuda: bool = True
    """False where CUDA and cuDNN have to be on the system."""
    cudnn: str = ""
    default: bool = False
    """True for the build that PyPI has under this version."""
    source: str = ""

    @property
    def label(self) -> str:
        """Return what people call it: "2.7.0+cu126"."""
        return f"{self.version}+{tag(self.cuda)}"


class UnknownProjectError(EnvlockError):
    """A project whose builds the matrix does not have."""


def tag(cuda: str) -> str:
    """Return a CUDA version as a wheel's local label: "12.6" -> "cu126", "" -> "cpu"."""
    return "cu" + cuda.replace(".", "") if cuda else "cpu"


def builds(matrix: Matrix, project: str, wanted: str = "") -> list[Build]:
    """Return the builds of a project in a PEP 440 specifier, newest release first, its default build before others.

    Raises UnknownProjectError, and EnvlockError for a specifier that is none.
    """
    read = _READERS.get(_ALIASES.get(project, project))
    if read is None:
        raise UnknownProjectError(f"the matrix has no builds of {project!r}; it has {', '.join(_READERS)}")
    if specifier(wanted) is None:
        raise EnvlockError(f"{wanted!r} is not a version specifier such as ==2.9.* or >=2.6,<2.8")
    found = [build for build in read(matrix) if not wanted or _within(build, wanted)]
    return sorted(
        found, key=lambda each: (release(each.version), each.default, series(each.cuda)), reverse=True
    )


def _within(build: Build, wanted: str) -> bool:
    return bool(matches(build.version, wanted)) or bool(matches(build.label, wanted) and "+" in wanted)


def _torch(matrix: Matrix) -> Iterator[Build]:
    rows = {(series(row["version"]), row["cuda"]): row for row in matrix.rows("torch", "build")}
    for row in matrix.rows("torch", "release"):
        for cuda in ("", *row.get("cuda_builds", (row["cuda"],))):
            yield _torch_build(row, rows.get((series(row["version"]), cuda), {}), cuda, matrix)


def _torch_build(row: Any, build: Any, cuda: str, matrix: Matrix) -> Build:
    companions = {name: row[name] for name in ("torchvision", "torchaudio") if name in row}
    vision = companions.get("torchvision") or _vision_of(row["version"], matrix)
    if vision:
        companions = {"torchvision": vision, **companions}
    install = torch_install(row["version"], companions, cuda)
    if row.get("triton") and cuda:
        companions = {**companions, "triton": row["triton"].removeprefix("~=")}
    return Build(
        project="torch",
        version=row["version"],
        cuda=cuda,
        install=install,
        companions=companions,
        python=row["python"],
        glibc=build.get("glibc") or row.get("glibc", ""),
        archs=build.get("archs"),
        ptx=build.get("ptx"),
        compiler_cuda=cuda,
        cudnn=build.get("cudnn", ""),
        default=row["cuda"] == cuda,
        source=build.get("source") or row["source"],
    )


def _vision_of(torch: str, matrix: Matrix) -> str:
    """Return the newest torchvision whose own metadata asks for this torch's minor; "" where none does."""
    fitting = [
        row["version"]
        for row in matrix.rows("torch", "companion")
        if row["package"] == "torchvision"
        and matches(torch, row["torch"])
        and series(row["torch"].lstrip("=>~<! ")) == series(torch)
    ]
    return max(fitting, key=release, default="")


def torch_install(torch: str, companions: dict[str, str], cuda: str) -> str:
    """Return the command that installs a build of torch: as pytorch.org's page of previous versions writes it."""
    label = tag(cuda)
    if release(torch) >= (2,):
        pins = [f"torch=={torch}", *(f"{name}=={pin}" for name, pin in companions.items())]
        return f"pip install {' '.join(pins)} --index-url {TORCH_INDEX}/{label}"
    # Before 2.0 the index holds no dependencies and PyPI has other builds under the same number.
    pins = [
        f"torch=={torch}+{label}",
        *(f"{name}=={pin}{'' if name == 'torchaudio' else '+' + label}" for name, pin in companions.items()),
    ]
    return f"pip install {' '.join(pins)} --extra-index-url {TORCH_INDEX}/{label}"


def _jax(matrix: Matrix) -> Iterator[Build]:
    floors = {row["cuda"]: row.get("capability", "") for row in matrix.rows("jax", "cuda")}
    for row in matrix.rows("jax", "release"):
        for cuda in row["cuda"]:
            extra = f"cuda{cuda}" if cuda != "11" else "cuda11_pip"
            # Until 0.4.30 the CUDA wheels lay on a page of their own.
            links = f" -f {JAX_LINKS}" if release(row["version"]) < (0, 4, 30) else ""
            runtime = row.get(f"cuda{cuda}_built") or row.get(f"cuda{cuda}_runtime", "").lstrip(">=")
            yield Build(
                project="jax",
                version=row["version"],
                cuda=cuda,
                install=f'pip install "jax[{extra}]=={row["version"]}"{links}',
                python=row["python"],
                compiler_cuda=runtime,
                capability=floors.get(cuda, ""),
                cudnn=row.get(f"cuda{cuda}_cudnn", ""),
                default=cuda == row["cuda"][-1],
                source=row["source"],
            )


def _tensorflow(matrix: Matrix) -> Iterator[Build]:
    for row in matrix.rows("tensorflow", "release"):
        # Before 2.1 the GPU build is a package of its own; since 2.14 an extra brings CUDA along.
        brings = release(row["version"]) >= (2, 14)
        separate = release(row["version"]) < (2, 1)
        name = "tensorflow[and-cuda]" if brings else "tensorflow-gpu" if separate else "tensorflow"
        yield Build(
            project="tensorflow",
            version=row["version"],
            cuda=row["cuda"],
            install=f'pip install "{name}=={row["version"]}.*"',
            python=row["python"],
            compiler_cuda=row["cuda"],
            brings_cuda=brings,
            cudnn=row["cudnn"],
            default=True,
            source=row["source"],
        )


def _onnxruntime(matrix: Matrix) -> Iterator[Build]:
    for row in matrix.rows("onnxruntime", "release"):
        index = "" if row["pypi"] else f" --extra-index-url {ONNX_INDEX.format(row['cuda'].split('.')[0])}"
        pin = row["version"] if row["version"].count(".") > 1 else f"{row['version']}.*"
        yield Build(
            project="onnxruntime-gpu",
            version=row["version"],
            cuda=row["cuda"],
            install=f'pip install "onnxruntime-gpu=={pin}"{index}',
            python=row.get("python", ""),
            compiler_cuda=row["cuda"],
            brings_cuda=False,
            cudnn=row["cudnn"],
            default=row["pypi"],
            source=row["source"],
        )


_READERS: dict[str, Callable[[Matrix], Iterator[Build]]] = {
    "torch": _torch,
    "jax": _jax,
    "tensorflow": _tensorflow,
    "onnxruntime-gpu": _onnxruntime,
}
_ALIASES = {"pytorch": "torch", "onnxruntime": "onnxruntime-gpu", "tensorflow-gpu": "tensorflow"}


def parsed(requirement: str) -> tuple[str, str]:
    """Split "torch==2.9.*" into the project and the specifier; raises EnvlockError for what is neither."""
    from envlock.manifest.requirements import parse_requirement

    found = parse_requirement(requirement)
    if found is None or specifier(found.specifier) is None:
        raise EnvlockError(f"{requirement!r} is not a requirement such as torch, torch==2.9.* or torch>=2.6")
    return _ALIASES.get(found.name, found.name), found.specifier


def newest_known(matrix: Matrix, project: str) -> str:
    """Return the newest release of a project that the matrix knows."""
    return max((build.version for build in builds(matrix, project)), key=release)
