"""A CycloneDX 1.6 SBOM (JSON) through cyclonedx-python-lib: packages, native libraries, interpreter and system.

Package URLs: https://github.com/package-url/purl-spec. Each native library stands below the package that
brought it, as the copy that it is: its path and who loads it are properties under ``envlock:``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envlock.errors import EnvlockError
from envlock.locks.export.model import Exported, Files, plural
from envlock.manifest.digest import digests
from envlock.manifest.model import CondaPackage, Manifest
from envlock.manifest.requirements import parse_requirement

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

_SYSTEM_TYPES = {"debian": "deb", "ubuntu": "deb", "alpine": "apk"}
_RPM = ("fedora", "rhel", "centos", "rocky", "almalinux", "amzn", "sles", "opensuse-leap", "ol")
_NAMESPACE = "6d2f8b1e-2f6c-5c0e-9a39-8f8a4f1f7a11"
"""Of the serial numbers, so that one stack has one number."""


def write(manifest: Manifest, files: Files) -> Exported:
    """Return the SBOM; raises EnvlockError, naming the extra, where cyclonedx-python-lib is not installed."""
    try:
        import cyclonedx.model.bom as model
        from cyclonedx.model import Property
        from cyclonedx.output.json import JsonV1Dot6
    except ImportError:
        raise EnvlockError(
            "writing an SBOM needs cyclonedx-python-lib: pip install 'envlock-stack[sbom]'"
        ) from None
    import uuid

    notes: list[str] = []
    root = _root(manifest)
    packages = _packages(manifest, files, notes)
    libraries = _libraries(manifest)
    others = _surroundings(manifest)
    bom = model.Bom(
        components=[*packages.values(), *(each for _, each in libraries), *others],
        serial_number=uuid.uuid5(uuid.UUID(_NAMESPACE), digests(manifest)["image"]),
    )
    bom.metadata.component = root
    if manifest.capture.time is not None:
        bom.metadata.timestamp = manifest.capture.time
    for address, reason in sorted(manifest.capture.unobserved.items()):
        bom.metadata.properties.add(Property(name=f"envlock:unobserved:{address}", value=reason))
        if address.startswith(("package", "library")):
            notes.append(f"{address}: {reason}")
    for note in notes:
        bom.metadata.properties.add(Property(name="envlock:note", value=note))
    bom.register_dependency(root, [*packages.values(), *(each for _, each in libraries), *others])
    for name, wanted in sorted(manifest.requires.items()):
        names = sorted({f"pip:{each.name}" for line in wanted if (each := parse_requirement(line))})
        if f"pip:{name}" in packages:
            bom.register_dependency(
                packages[f"pip:{name}"], [packages[each] for each in names if each in packages]
            )
    for provider, component in libraries:
        if provider in packages:
            bom.register_dependency(packages[provider], [component])
    return Exported(JsonV1Dot6(bom).output_as_string(indent=2) + "\n", tuple(notes), len(packages))


def _component(name: str, version: str | None, purl: Any = None, **more: Any) -> Component:
    from cyclonedx.model.component import Component

    return Component(name=name, version=version, purl=purl, **more)


def _properties(values: dict[str, Any]) -> list[Any]:
    from cyclonedx.model import Property

    return [
        Property(
            name=f"envlock:{key}", value=", ".join(value) if isinstance(value, (list, tuple)) else str(value)
        )
        for key, value in values.items()
        if value not in (None, "", (), [])
    ]


def _root(manifest: Manifest) -> Component:
    from cyclonedx.model.component import ComponentType

    kind = ComponentType.CONTAINER if manifest.capture.source == "image" else ComponentType.APPLICATION
    return _component(manifest.capture.name or manifest.container.image or "environment", None, type=kind,
                      bom_ref="envlock:root")  # fmt: skip


def _packages(manifest: Manifest, files: Files, notes: list[str]) -> dict[str, Component]:
    """Return the components of packages by provider, ``pip:numpy``, as libraries name it."""
    from packageurl import PackageURL

    found: dict[str, Component] = {}
    nameless = [name for name, package in manifest.package.pip.items() if package.version is None]
    if nameless:
        notes.append(f"the version of {', '.join(nameless[:8])}, installed without one")
    for name, package in manifest.package.pip.items():
        framework = manifest.framework.get(name)
        facts = {"source": package.source, "editable": package.editable, "digest": package.digest,
                 "cuda": framework.cuda if framework else None}  # fmt: skip
        vcs = (
            {"vcs_url": package.source}
            if package.source and "+" in package.source.partition("://")[0]
            else {}
        )
        purl = PackageURL("pypi", name=name, version=package.version, qualifiers=vcs or None)
        found[f"pip:{name}"] = _component(name, package.version, purl, bom_ref=f"pip:{name}",
                                          properties=_properties(facts))  # fmt: skip
    for name, conda in manifest.package.conda.items():
        file = files.conda.get(name)
        digests_of = {
            "sha256": conda.sha256 or (file.sha256 if file else None),
            "md5": conda.md5 or (file.md5 if file else None),
        }
        found[f"conda:{name}"] = _component(name, conda.version, _conda_url(name, conda), bom_ref=f"conda:{name}",
                                            hashes=_hashes(digests_of))  # fmt: skip
    for prefix, packages in manifest.conda.items():
        for name, conda in packages.items():
            found[f"conda:{prefix}:{name}"] = _component(
                name, conda.version, _conda_url(name, conda), bom_ref=f"conda:{prefix}:{name}",
                hashes=_hashes({"sha256": conda.sha256}), properties=_properties({"prefix": prefix}))  # fmt: skip
    kind = _SYSTEM_TYPES.get(manifest.os.id or "", "rpm" if manifest.os.id in _RPM else "generic")
    if manifest.package.system and kind == "generic":
        count = plural(len(manifest.package.system), "system package")
        notes.append(f"the package manager of {count}: the distribution is {manifest.os.id or 'not known'}")
    for name, version in manifest.package.system.items():
        purl = PackageURL(
            kind, namespace=manifest.os.id if kind != "generic" else None, name=name, version=version
        )
        found[f"{kind}:{name}"] = _component(name, version, purl, bom_ref=f"system:{name}")
    return found


def _conda_url(name: str, package: CondaPackage) -> Any:
    from packageurl import PackageURL

    held = {"build": package.build, "channel": package.channel, "subdir": package.subdir}
    return PackageURL("conda", name=name, version=package.version,
                      qualifiers={key: value for key, value in held.items() if value})  # fmt: skip


def _hashes(values: dict[str, str | None]) -> list[Any]:
    from cyclonedx.model import HashAlgorithm, HashType

    kinds = {"sha256": (HashAlgorithm.SHA_256, 64), "md5": (HashAlgorithm.MD5, 32)}
    return [
        HashType(alg=kinds[kind][0], content=value)
        for kind, value in values.items()
        if value and len(value) == kinds[kind][1]
    ]


def _libraries(manifest: Manifest) -> list[tuple[str, Component]]:
    """Return every copy of a native library with its provider."""
    from cyclonedx.model.component import ComponentType

    found = []
    for number, library in enumerate(manifest.library):
        facts = {"soname": library.soname, "path": library.path, "provider": library.provider, "cuda": library.cuda,
                 "used_by": library.used_by}  # fmt: skip
        component = _component(library.name, library.version, type=ComponentType.LIBRARY,
                               bom_ref=f"library:{number}:{library.name}", properties=_properties(facts))  # fmt: skip
        found.append((library.provider or "", component))
    return found


def _surroundings(manifest: Manifest) -> list[Component]:
    from cyclonedx.model.component import ComponentType
    from packageurl import PackageURL

    found = []
    if manifest.os.id:
        found.append(_component(manifest.os.id, manifest.os.version, type=ComponentType.OPERATING_SYSTEM, bom_ref="os",
                                properties=_properties({"libc": manifest.os.libc})))  # fmt: skip
    if manifest.python.version:
        purl = PackageURL("generic", name="python", version=manifest.python.version)
        found.append(
            _component("python", manifest.python.version, purl, type=ComponentType.PLATFORM, bom_ref="python")
        )
    for number, toolkit in enumerate(manifest.toolkit):
        found.append(_component("cuda-toolkit", toolkit.version, type=ComponentType.PLATFORM, bom_ref=f"toolkit:{number}",
                                properties=_properties({"path": toolkit.path})))  # fmt: skip
    return found
