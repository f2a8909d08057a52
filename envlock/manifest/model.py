"""The manifest's types: one struct a table, in the order and with the names that the TOML file has.

``None`` is a fact that the manifest does not hold; an empty string is a fact known not to be there.
Sizes and units are in the field names (``memory_gib``); versions are text as the vendor writes them.
"""

from __future__ import annotations

import datetime
from typing import Any, Literal

import msgspec

SCHEMA = "envlock/1"
"""The format that this envlock reads and writes."""


class Table(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of every table: immutable, and silent about what it does not hold."""


class Capture(Table, frozen=True):
    """How and when the facts were seen."""

    envlock: str | None = None
    time: datetime.datetime | None = None
    source: Literal["live", "root", "image", "import"] | None = None
    name: str | None = None
    unobserved: dict[str, str] = {}


class Host(Table, frozen=True):
    """The machine under the operating system."""

    kernel: str | None = None
    arch: str | None = None
    cpu: str | None = None
    cpu_level: str | None = None
    memory_gib: int | float | None = None
    shm_gib: int | float | None = None
    platform: str | None = None
    iommu: bool | None = None
    pcie_acs: bool | None = None
    secure_boot: bool | None = None
    memlock_kib: int | None = None
    interfaces: tuple[str, ...] | None = None
    rdma: str | None = None


class Driver(Table, frozen=True):
    """The NVIDIA driver: kernel module, user space, and what comes with them."""

    version: str | None = None
    kernel_module: str | None = None
    flavor: str | None = None
    cuda: str | None = None
    fabric_manager: str | None = None
    compat: str | None = None
    libcuda: str | None = None
    missing: tuple[str, ...] = ()


class Gpu(Table, frozen=True):
    """A kind of GPU, and how many of it there are."""

    name: str | None = None
    compute_capability: str | None = None
    memory_mib: int | None = None
    count: int | None = None
    mig: bool | None = None


class Container(Table, frozen=True):
    """How this process is contained, or what the image asks of its host."""

    runtime: str | None = None
    image: str | None = None
    digest: str | None = None
    require: str | None = None
    visible_devices: str | None = None
    driver_capabilities: str | None = None
    toolkit: str | None = None


class Os(Table, frozen=True):
    """The operating system's release and its two C libraries."""

    id: str | None = None
    version: str | None = None
    libc: str | None = None
    libstdcxx: str | None = None


class Python(Table, frozen=True):
    """The interpreter in use, and where it looks for modules."""

    version: str | None = None
    implementation: str | None = None
    abi: str | None = None
    executable: str | None = None
    prefix: str | None = None
    user_site: bool | None = None
    path: tuple[str, ...] = ()
    openssl: str | None = None
    sqlite: str | None = None


class Toolkit(Table, frozen=True):
    """A CUDA toolkit on this machine."""

    version: str | None = None
    path: str | None = None
    active: bool | None = None


class Compiler(Table, frozen=True):
    """The compilers that an extension would be built with."""

    gcc: str | None = None
    cxx: str | None = None
    nvcc: str | None = None


class Library(Table, frozen=True):
    """One copy of a native library."""

    name: str
    version: str | None = None
    soname: str | None = None
    path: str | None = None
    provider: str | None = None
    cuda: str | None = None
    used_by: tuple[str, ...] = ()


class Framework(Table, frozen=True):
    """A framework or compiled extension: what it was built with and what it expects."""

    version: str | None = None
    cuda: str | None = None
    hip: str | None = None
    cudnn: str | None = None
    nccl: str | None = None
    archs: tuple[str, ...] | None = None
    ptx: tuple[str, ...] | None = None
    cxx11_abi: bool | None = None
    source: str | None = None
    needs: dict[str, str] = {}
    built_for: dict[str, str] = {}


class PipPackage(Table, frozen=True):
    """An installed Python distribution."""

    version: str | None = None
    installer: str | None = None
    source: str | None = None
    editable: bool | None = None
    digest: str | None = None
    imports: tuple[str, ...] = ()
    shadowed_by: str | None = None
    duplicates: tuple[str, ...] = ()
    modified: tuple[str, ...] = ()
    """Files that differ from the package's own record (`capture --deep`); missing ones too."""


class CondaPackage(Table, frozen=True):
    """A package of a conda prefix."""

    version: str | None = None
    build: str | None = None
    channel: str | None = None
    subdir: str | None = None
    sha256: str | None = None
    md5: str | None = None
    modified: tuple[str, ...] = ()


class Packages(Table, frozen=True):
    """Installed packages by the manager that knows them; system packages map to their version."""

    pip: dict[str, PipPackage] = {}
    conda: dict[str, CondaPackage] = {}
    system: dict[str, str] = {}


class Waiver(Table, frozen=True, forbid_unknown_fields=True):
    """A finding that people decided to live with, until a day."""

    rule: str
    reason: str
    until: datetime.date | None = None
    address: str | None = None


class Lock(Table, frozen=True, forbid_unknown_fields=True):
    """What people write: how far the stack may move from this manifest."""

    ignore: tuple[str, ...] = ()
    allow: dict[str, str] = {}
    waiver: tuple[Waiver, ...] = ()


class Manifest(Table, frozen=True):
    """The whole stack under a GPU program."""

    schema: str = msgspec.field(default=SCHEMA)
    capture: Capture = Capture()
    digest: dict[str, str] = {}
    host: Host = Host()
    driver: Driver = Driver()
    gpu: tuple[Gpu, ...] = ()
    container: Container = Container()
    os: Os = Os()
    python: Python = Python()
    toolkit: tuple[Toolkit, ...] = ()
    compiler: Compiler = Compiler()
    library: tuple[Library, ...] = ()
    framework: dict[str, Framework] = {}
    package: Packages = Packages()
    conda: dict[str, dict[str, CondaPackage]] = {}
    """By prefix, the packages of conda prefixes beside the environment in use: no part of it."""
    requires: dict[str, tuple[str, ...]] = {}
    environ: dict[str, str] = {}
    lock: Lock = Lock()


IMAGE_SECTIONS = ("os", "python", "toolkit", "compiler", "library", "framework", "package")
"""What a container image carries; a lock says what these must be."""

MACHINE_SECTIONS = ("host", "driver", "gpu")
"""What the machine brings; a lock says what these must satisfy."""


def to_plain(manifest: Manifest) -> dict[str, Any]:
    """Return the manifest as plain tables and lists, in the order of the format, defaults left out."""
    return {section: _lists(value) for section, value in to_sections(manifest).items()}


def to_sections(manifest: Manifest) -> dict[str, Any]:
    """Return the manifest as to_plain does, with tuples for lists: for those who write it down."""
    plain: dict[str, Any] = msgspec.to_builtins(manifest, builtin_types=(datetime.datetime, datetime.date))
    plain = {section: _without_empty(section, value) for section, value in plain.items()}
    return {"schema": manifest.schema, **{section: value for section, value in plain.items() if value}}


def _lists(value: Any) -> Any:
    """Turn tuples, which msgspec leaves as they are, into the lists that a TOML reader gives."""
    if isinstance(value, dict):
        return {key: _lists(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_lists(each) for each in value]
    return value


def _without_empty(section: str, value: Any) -> Any:
    """Drop empty tables whose absence means the same; a package without any field (``numpy = {}``) is a fact."""
    if section in ("package", "capture", "lock"):
        return {key: each for key, each in value.items() if each not in ({}, (), [])}
    return value
