"""A manifest as rules ask it: effective copies, packages of either manager, what is known and what is not."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from envlock.manifest.model import CondaPackage, Driver, Framework, Gpu, Library, Manifest, PipPackage

CONDA_NAMES = {"pytorch": "torch", "pytorch-gpu": "torch", "pytorch-cpu": "torch",
               "tensorflow-base": "tensorflow",
               "py-opencv": "opencv-python", "matplotlib-base": "matplotlib", "torchtriton": "triton",
               "onnxruntime-cpp": "onnxruntime"}  # fmt: skip
"""Conda packages whose project has another name on PyPI, as conda-forge's and pytorch's recipes name them."""


class Installed(NamedTuple):
    """A project as it is installed, whichever manager brought it."""

    name: str
    """The PyPI name."""
    version: str | None
    address: str
    manager: str
    """"pip" or "conda"."""
    build: str | None = None


class Stack:
    """A read-only view of a manifest; everything is computed once and on demand."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.driver: Driver = manifest.driver
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

    def effective(self, name: str, framework: str) -> Library | None:
        """Return the copy that a framework's search order ends at, where that is known."""
        return next((copy for copy in self.libraries(name) if framework in copy.used_by), None)
