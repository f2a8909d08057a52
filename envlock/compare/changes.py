"""Two manifests to typed changes: what kind, how big, and which change merely follows another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envlock.compare.model import Change, Kind, Unseen
from envlock.manifest.address import covers, facts
from envlock.manifest.model import Manifest
from envlock.manifest.versions import size_of_change

BUILD_FIELDS = ("build", "subdir")
ORIGIN_FIELDS = ("source", "editable", "channel")
DIGEST_FIELDS = ("digest", "sha256", "md5")
QUIET_FIELDS = ("installer", "imports")
"""Fields of a package that say nothing about what would run."""


def changes(mine: Manifest, theirs: Manifest) -> list[Change]:
    """Return every difference between two manifests, in order of address; unobserved facts are none."""
    before, after = facts(mine), facts(theirs)
    _join_prefixes(before, mine, theirs)
    _join_prefixes(after, theirs, mine)
    hidden = {**mine.capture.unobserved, **theirs.capture.unobserved}
    found = []
    for address in sorted(_changed(before, after)):
        if any(covers(unseen, address) for unseen in hidden):
            continue
        change = _change(address, before.get(address), after.get(address))
        if change is not None:
            found.append(_marked(change, mine, theirs))
    return found


def _join_prefixes(held: dict[str, Any], own: Manifest, other: Manifest) -> None:
    """Make one fact of a conda prefix that lies beside the environment on one side only."""
    for prefix in own.conda.keys() - other.conda.keys():
        for name in own.conda[prefix]:
            held.pop(f"conda.{prefix}.{name}", None)
        count = len(own.conda[prefix])
        held[f"conda.{prefix}"] = f"{count} package" + "s" * (count != 1)


def unseen(mine: Manifest, theirs: Manifest) -> list[Unseen]:
    """Return what either side could not see, with the side and the reason."""
    sides = (("mine", mine), ("theirs", theirs))
    return [
        Unseen(address, reason, side)
        for side, manifest in sides
        for address, reason in sorted(manifest.capture.unobserved.items())
    ]


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """Return the addresses whose values differ, by DeepDiff over the canonical facts."""
    if before == after:
        return set()
    import msgspec
    from deepdiff import DeepDiff

    # Each fact as canonical text: what differs inside one is looked at afterwards, only where it does.
    one, two = (
        {address: msgspec.json.encode(value, order="sorted").decode() for address, value in side.items()}
        for side in (before, after)
    )
    tree = DeepDiff(one, two, view="tree", threshold_to_diff_deeper=0)
    return {str(level.path(output_format="list")[0]) for levels in tree.values() for level in levels}


def _change(address: str, before: Any, after: Any) -> Change | None:
    if before is None:
        return Change(address, "added", after=after)
    if after is None:
        return Change(address, "removed", before=before)
    if isinstance(before, dict) and isinstance(after, dict):
        return _package_change(address, before, after)
    if isinstance(before, str) and isinstance(after, str):
        kind: Kind = "version" if _is_version(address) else "value"
        size = size_of_change(before, after) if kind == "version" else ""
        return Change(address, kind, size, before, after)
    size = _list_size(before, after)
    return Change(address, "version" if size else "value", size, before, after)


def _package_change(address: str, before: dict[str, Any], after: dict[str, Any]) -> Change | None:
    one = {key: value for key, value in before.items() if key not in QUIET_FIELDS}
    two = {key: value for key, value in after.items() if key not in QUIET_FIELDS}
    if one == two:
        return None
    if one.get("version") != two.get("version"):
        if one.get("version") is None or two.get("version") is None:
            return Change(address, "value", "unknown", before, after)
        return Change(address, "version", size_of_change(one["version"], two["version"]), before, after)
    moved = {key for key in one.keys() | two.keys() if one.get(key) != two.get(key)}
    if moved & set(BUILD_FIELDS):
        return Change(address, "build", "build", before, after)
    if moved & set(ORIGIN_FIELDS):
        return Change(address, "origin", "build", before, after)
    if moved & set(DIGEST_FIELDS):
        # A digest that only one side could take says nothing.
        if all((one.get(key) is None) != (two.get(key) is None) for key in moved):
            return None
        return Change(address, "digest", "build", before, after)
    return Change(address, "value", "", before, after)


def _is_version(address: str) -> bool:
    last = address.rpartition(".")[2]
    return last in ("version", "cuda", "cudnn", "nccl", "gcc", "nvcc", "kernel_module", "fabric_manager",
                    "openssl", "sqlite", "toolkit", "compat") or address.startswith("package.system.")  # fmt: skip


def _list_size(before: Any, after: Any) -> str:
    """Return the size of the version change between two one-entry lists of tables, else nothing."""
    if not (isinstance(before, list) and isinstance(after, list) and len(before) == len(after) == 1):
        return ""
    one, two = before[0], after[0]
    if not (isinstance(one, dict) and isinstance(two, dict)) or one.get("version") == two.get("version"):
        return ""
    return size_of_change(one.get("version"), two.get("version"))


def _marked(change: Change, mine: Manifest, theirs: Manifest) -> Change:
    silent = theirs if change.kind == "removed" else mine if change.kind == "added" else None
    if silent is None or silent.capture.source != "import":
        return change
    return Change(change.address, change.kind, change.size, change.before, change.after, one_sided=True)
