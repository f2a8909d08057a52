"""A manifest as rules ask it: effective copies, packages of either manager, what is known and what is not."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from envlock.manifest.model import CondaPackage, Driver, Framework, Gpu, Library, Manifest, PipPackage
from envlock.manifest.versions import release

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envlock.matrix.lookup import Platform

CONDA_NAMES = {"pytorch": "torch", "pytorch-gpu": "torch", "pytorch-cpu": "torch",
               "tensorflow-base": "tensorflow",
               "py-opencv": "opencv-python", "matplotlib-base": "matplotlib", "torchtriton": "triton",
               "onnxruntime-cpp": "onnxruntime"}  # fmt: skip
"""Conda packages whose project has another name on PyPI, as conda-forge's and pytorch's recipes name them."""


FEW = 20
"""A report of more packages is somebody's whole list: what its writer left open says nothing."""


class Installed(NamedTuple):
    """A project as it is installed, whichever manager brought it."""

    name: str
    """The PyPI name."""
    version: str | None
    address: str
    manager: str
    """"pip" or "conda"."""
    build: str | None = None


class Build(NamedTuple):
    """What is certain of how a framework was built, from its own facts or from what its version spells out."""

    name: str
    version: str | None
    cuda: str | None
    """"12.4" or a bare major; "" for a CPU build; None where it is not known."""
    cudnn: str | None
    facts: tuple[tuple[str, str], ...]
    """Addresses and values that say so."""

    @property
    def label(self) -> str:
        """Return it in words: "torch 2.4.0+cu124"."""
        return f"{self.name} {self.version}" if self.version else self.name


_CARRIERS = {"jax": "jaxlib"}
"""Frameworks whose compiled half is a package of another name."""

_CUDA_OF_BUILD = re.compile(r"(?:^|[_+.])cu(?:da)?_?(\d+\.\d+|\d{2,3})(?=$|[_.]|py|cudnn)")
_CUDNN_OF_BUILD = re.compile(r"cudnn_?(\d+(?:\.\d+)+|\d{2,3})(?=$|[_.])")
_CPU_OF_BUILD = re.compile(r"(?:^|[_+])cpu(?:$|_)")


def cuda_of_build(text: str) -> str | None:
    """Read the CUDA out of a version's local part or a conda build: "+cu124", "cuda112py310h1", "_cuda11.6_".

    Returns "" for a CPU build and None where nothing is said.
    """
    found = _CUDA_OF_BUILD.search(text)
    if found:
        return _dotted(found[1])
    return "" if _CPU_OF_BUILD.search(text) else None


def _dotted(digits: str) -> str:
    """Put the dot in: "124" -> "12.4", "11" stays the major that it is, "92" -> "9.2"."""
    if "." in digits:
        return digits
    return digits if digits in ("10", "11", "12", "13") else f"{digits[:-1]}.{digits[-1]}"


_LIBCUDA = re.compile(r"libcuda\.so\.(\d{3}(?:\.\d+)+)$")


_USER_SPACE = re.compile(
    r"(?:nvidia-(?:smi|driver|(?:utils|compute-utils|driver)-\d+|driver-(?:bin|libs|cuda|cuda-libs|NVML))"
    r"|libcuda1|libnvidia-(?:ml1|(?!nscq)[a-z]+1?-\d+))(?:-server)?(?:-open)?(?::\w+)?$"
)
"""Packages of the driver's own libraries and programs on Debian, Ubuntu and Red Hat; NSCQ has releases of its own."""


def _driver(driver: Driver, system: Mapping[str, str]) -> tuple[Driver, str]:
    """Return a driver with its version, and the fact that says it.

    That is the file name of its libcuda, a package of its libraries as distributions name them, else its module.
    """
    if driver.version:
        return driver, "driver.version"
    named = _LIBCUDA.search(driver.libcuda or "") if "/compat/" not in (driver.libcuda or "") else None
    if named:
        return msgspec.structs.replace(driver, version=named[1]), "driver.libcuda"
    if driver.kernel_module:
        for name, text in system.items():
            if _USER_SPACE.match(name) and (held := re.match(r"(?:\d+:)?(\d{3}(?:\.\d+)+)", text)):
                return msgspec.structs.replace(driver, version=held[1]), f"package.system.{name}"
        return msgspec.structs.replace(driver, version=driver.kernel_module), "driver.kernel_module"
    return driver, "driver.version"


class Stack:
    """A read-only view of a manifest; everything is computed once and on demand."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        host = manifest.host
        self.wsl2 = host.platform == "wsl2" or "microsoft" in (host.kernel or "").lower()
        self.driver_platform: Platform = "windows" if self.wsl2 or host.platform == "windows" else "linux"
        """Whose driver this is: inside WSL2 it is that of Windows (CUDA on WSL User Guide, CUDA Support for WSL 2)."""
        self.driver, self.driver_address = (
            (manifest.driver, "driver.version")
            if self.wsl2
            else _driver(manifest.driver, manifest.package.system)
        )
        """The driver, its version read off another fact where it is not stated, and the address of that fact."""
        self.gpus: tuple[Gpu, ...] = manifest.gpu
        self.frameworks: dict[str, Framework] = manifest.framework
        self.environ = manifest.environ
        self.partial = manifest.capture.source == "import"
        """True where what is missing is not known, rather than not there."""

    def unobserved(self, address: str) -> str | None:
        """Return why a fact (or the table that it is in) could not be seen; None where it could."""
        reasons = self.manifest.capture.unobserved
        while address:
            if address in reasons:
                return reasons[address]
            address = address.rpartition(".")[0]
        return None

    def absent(self, address: str, value: object) -> bool:
        """Tell whether a fact is *known* not to be there: looked for on a real root, and not found."""
        return value in (None, (), {}) and not self.partial and self.unobserved(address) is None

    @cached_property
    def packages(self) -> dict[str, Installed]:
        """Every project by PyPI name; where both managers hold one, pip's copy is imported."""
        found: dict[str, Installed] = {}
        for name, conda in self.manifest.package.conda.items():
            project = CONDA_NAMES.get(name, name)
            if project != name and project in self.manifest.package.conda:
                continue
            found[project] = Installed(project, conda.version, f"package.conda.{name}", "conda", conda.build)
        for name, pip in self.manifest.package.pip.items():
            found[name] = Installed(name, pip.version, f"package.pip.{name}", "pip")
        return found

    def package(self, name: str) -> Installed | None:
        """Return a project by its PyPI name."""
        return self.packages.get(name)

    def pip(self, name: str) -> PipPackage | None:
        """Return a distribution that pip (or another wheel installer) brought."""
        return self.manifest.package.pip.get(name)

    def conda(self, name: str) -> CondaPackage | None:
        """Return a package of the conda prefix."""
        return self.manifest.package.conda.get(name)

    def framework(self, name: str) -> Framework | None:
        """Return a framework's build facts."""
        return self.manifest.framework.get(name)

    def version_of(self, name: str) -> Installed | None:
        """Return a project from its package or, where no package is recorded, from its framework's facts."""
        installed = self.packages.get(name)
        if installed is not None and installed.version:
            return installed
        framework = self.manifest.framework.get(name)
        if framework is not None and framework.version:
            return Installed(name, framework.version, f"framework.{name}.version", framework.source or "pip")
        return installed

    @cached_property
    def _libraries(self) -> dict[str, tuple[Library, ...]]:
        found: dict[str, tuple[Library, ...]] = {}
        for library in self.manifest.library:
            found[library.name] = (*found.get(library.name, ()), library)
        return found

    def libraries(self, name: str) -> tuple[Library, ...]:
        """Return every recorded copy of a library."""
        return self._libraries.get(name, ())

    def build(self, name: str) -> Build | None:
        """Return what is certain of a framework's build; None where the framework is not there."""
        framework = self.frameworks.get(name)
        package = self.packages.get(_CARRIERS.get(name, name)) or self.packages.get(name)
        if framework is None and package is None:
            return None
        framework = framework or Framework()
        facts: list[tuple[str, str]] = []
        if framework.cuda is not None:
            facts.append((f"framework.{name}.cuda", framework.cuda))
        # "N/A" and the like tell nothing; the version's spelling may.
        cuda = framework.cuda if framework.cuda == "" or release(framework.cuda) else None
        cudnn = framework.cudnn
        for address, text in self._spellings(name, framework, package):
            said, said_cudnn = cuda_of_build(text), _CUDNN_OF_BUILD.search(text)
            if said is not None or said_cudnn:
                facts.append((address, text))
            cuda = said if cuda is None else cuda
            if cudnn is None and said_cudnn:
                cudnn = _dotted(said_cudnn[1])
        version = framework.version or (package.version if package else None)
        if not facts:
            facts = [(f"framework.{name}.version", framework.version)] if framework.version else []
            facts += [(package.address, package.version)] if package and package.version else []
        return Build(name, version, cuda, cudnn, tuple(facts))

    def _spellings(self, name: str, framework: Framework, package: Installed | None) -> list[tuple[str, str]]:
        """Return the texts that may spell out a build's CUDA: versions with a local part, conda's build."""
        texts = [(f"framework.{name}.version", framework.version)]
        if package is not None:
            texts += [(package.address, package.version), (package.address, package.build)]
        return [
            (address, text.lower())
            for address, text in texts
            if text and ("+" in text or "_" in text or text == getattr(package, "build", None))
        ]
