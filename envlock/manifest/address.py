"""Addresses: the dotted path of a fact, in which findings, changes, causes, waivers and ignores speak.

``driver.version``, ``gpu``, ``library.cudnn``, ``framework.torch.cuda``, ``package.pip.numpy``,
``package.conda.pytorch.build``, ``conda./opt/conda.zlib``, ``environ.LD_LIBRARY_PATH``. Libraries are addressed by
name: all copies of one library are one fact. Conda names may hold dots; the longest name that exists wins.
"""

from __future__ import annotations

from typing import Any

import msgspec

from envlock.manifest.model import CondaPackage, Framework, Manifest, PipPackage, to_plain

_LISTS = {"gpu", "toolkit"}


def facts(manifest: Manifest) -> dict[str, Any]:
    """Return every fact as address -> plain value; a package, and all copies of a library, are one fact."""
    plain = to_plain(manifest)
    found: dict[str, Any] = {}
    for section in ("host", "driver", "container", "os", "python", "compiler"):
        for key, value in plain.get(section, {}).items():
            found[f"{section}.{key}"] = value
    for section in _LISTS:
        if plain.get(section):
            found[section] = plain[section]
    for library in plain.get("library", ()):
        found.setdefault(f"library.{library['name']}", []).append(library)
    for name, table in plain.get("framework", {}).items():
        for key, value in table.items():
            found[f"framework.{name}.{key}"] = value
    for manager, packages in plain.get("package", {}).items():
        for name, package in packages.items():
            found[f"package.{manager}.{name}"] = package
    for prefix, packages in plain.get("conda", {}).items():
        for name, package in packages.items():
            found[f"conda.{prefix}.{name}"] = package
    for name, value in plain.get("environ", {}).items():
        found[f"environ.{name}"] = value
    return found


def covers(pattern: str, address: str) -> bool:
    """Tell whether an address is the pattern, lies below it, or matches its ``*`` parts."""
    if pattern == address or address.startswith(pattern + "."):
        return True
    if "*" not in pattern:
        return False
    from fnmatch import fnmatchcase

    return fnmatchcase(address, pattern) or fnmatchcase(address, pattern + ".*")


def get(manifest: Manifest, address: str) -> Any:
    """Return the fact at an address as a plain value, or None where the manifest does not hold it."""
    return _get(to_plain(manifest), address)


def _get(plain: dict[str, Any], address: str) -> Any:
    section, _, rest = address.partition(".")
    if section == "library" and rest:
        return [library for library in plain.get("library", ()) if library["name"] == rest] or None
    value: Any = plain
    for key in _keys(plain, address):
        value = value.get(key) if isinstance(value, dict) else None
    return value


_PACKAGE_FIELDS = {*PipPackage.__struct_fields__, *CondaPackage.__struct_fields__}
_FRAMEWORK_FIELDS = frozenset(Framework.__struct_fields__)


def _keys(plain: dict[str, Any], address: str) -> list[str]:
    """Split an address into the keys of the tables it leads through; names of packages may hold dots."""
    section, _, rest = address.partition(".")
    if not rest:
        return [section]
    if section in ("environ", "requires", "digest"):
        return [section, rest]
    if section == "conda":
        # A prefix may hold dots as well as a name; it ends in the folder after its last slash.
        known = [each for each in plain.get(section, {}) if rest == each or rest.startswith(each + ".")]
        folder, slash, last = rest.rpartition("/")
        prefix = max(known, key=len, default=folder + slash + last.partition(".")[0])
        return [section, prefix, *filter(None, [rest[len(prefix) + 1 :]])]
    parts = rest.split(".")
    if section == "package" and len(parts) > 1:
        name = ".".join(parts[1:])
        known = plain.get(section, {}).get(parts[0], {})
        if name not in known and len(parts) > 2 and parts[-1] in _PACKAGE_FIELDS:
            return [section, parts[0], ".".join(parts[1:-1]), parts[-1]]
        return [section, parts[0], name]
    if section == "framework":
        field = next(
            (place for place in range(1, len(parts)) if parts[place] in _FRAMEWORK_FIELDS), len(parts)
        )
        return [section, ".".join(parts[:field]), *parts[field:]]
    return [section, *parts]


def replace(manifest: Manifest, changes: dict[str, Any]) -> Manifest:
    """Return a manifest in which each address holds the given plain value; None takes the fact out.

    This is how a fix or a reverted difference is tried on paper. Raises msgspec.ValidationError for a
    value that does not fit the format.
    """
    plain = to_plain(manifest)
    for address, value in changes.items():
        _set(plain, address, value)
    return msgspec.convert(plain, Manifest)


def _set(plain: dict[str, Any], address: str, value: Any) -> None:
    section, _, rest = address.partition(".")
    if section == "library" and rest:
        others = [library for library in plain.get("library", ()) if library["name"] != rest]
        plain["library"] = [*others, *(value or ())]
        return
    *above, last = _keys(plain, address)
    table = plain
    for key in above:
        table = table.setdefault(key, {})
    if value is None:
        table.pop(last, None)
    else:
        table[last] = value
