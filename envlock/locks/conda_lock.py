"""conda-lock.yml, versions 1 and 2, by conda-lock's own models (https://github.com/conda/conda-lock).

The text is parsed here, with the bounds that hold for every lock file, and only the entries are given to
conda-lock: its own reader takes any size, and takes minutes for files of many platforms.
"""

from __future__ import annotations

import warnings
from typing import Any

from envlock.locks.model import (
    Choice,
    Locked,
    LockFile,
    LockFileError,
    Selection,
    Shape,
    Target,
    conda_file,
    load_yaml,
    normalise,
    public_url,
)
from envlock.manifest.read import printable

DEFAULT = "main"


def parse(text: str, path: str) -> LockFile:
    """Read a conda-lock.yml; raises LockFileError, naming the extra where conda-lock is not installed."""
    shape = Shape(path)
    plain = shape.table(load_yaml(text, path, typed=True), "the file")
    entries, platforms = _validated(plain, path)
    categories = {category for _, named in entries for category in named}

    def select(target: Target, choice: Choice) -> Selection:
        if target.subdir is None:
            raise LockFileError(f"{path}: the environment does not say which of {', '.join(platforms)} it is")
        if target.subdir not in platforms:
            raise LockFileError(
                f"{path}: holds {', '.join(platforms)}, and the environment is {target.subdir}"
            )
        wanted = {DEFAULT, *choice.groups, *choice.extras}
        return Selection(
            tuple(
                _locked(entry)
                for entry, named in entries
                if entry.platform == target.subdir and named & wanted
            )
        )

    others = frozenset(categories - {DEFAULT})
    return LockFile(
        select, closed=frozenset({"conda", "pip"}), speaks_of=frozenset({"conda", "pip"}), extras=others, groups=others,
        default_groups=frozenset({"dev"} & others), remedy=f"conda-lock install --prefix DIR {path}",
    )  # fmt: skip


def _validated(plain: dict[str, Any], path: str) -> tuple[list[tuple[Any, frozenset[str]]], list[str]]:
    """Return the entries with their categories, and the platforms, as conda-lock's models hold them."""
    try:
        with warnings.catch_warnings():
            # The conda that conda-lock carries warns about its own age.
            warnings.simplefilter("ignore")
            from conda_lock.lockfile.v1.models import Lockfile as Version1
            from conda_lock.lockfile.v2prelim.models import Lockfile as Version2
            from pydantic import ValidationError
    except ImportError:
        raise LockFileError(
            f"{path}: reading conda-lock.yml needs conda-lock: pip install 'envlock-stack[conda-lock]'"
        ) from None
    content = dict(plain)
    version = content.pop("version", None)
    models = {1: Version1, 2: Version2}
    if type(version) is not int or version not in models:
        raise LockFileError(f"{path}: conda-lock version {version!r} is not known; 1 and 2 are")
    try:
        lock = models[version].model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise LockFileError(printable(f"{path}: {place}: {first['msg'][:200]}")) from None
    except KeyError as error:
        # Its validators look at fields that have failed already.
        raise LockFileError(printable(f"{path}: package: a value of {error} that is not known")) from None
    except (ValueError, TypeError, AttributeError, AssertionError, RecursionError) as error:
        raise LockFileError(printable(f"{path}: not a conda-lock file: {str(error)[:200]}")) from None
    entries = [
        (entry, frozenset({entry.category}) if version == 1 else frozenset(entry.categories))
        for entry in lock.package
    ]
    return entries, sorted(lock.metadata.platforms)


def _locked(entry: Any) -> Locked:
    hashes = tuple(
        f"{kind}:{value}"
        for kind in ("sha256", "md5")
        if (value := getattr(entry.hash, kind, None)) is not None
    )
    if entry.manager == "conda":
        found = conda_file(entry.url)
        build, subdir, channel = found[2:] if found else (entry.build, None, None)
        return Locked(
            "conda", entry.name, entry.version, build=build, subdir=subdir, channel=channel, hashes=hashes
        )
    return Locked("pip", normalise(entry.name), entry.version or None, source=_source(entry),
                  index_too=entry.source is None and not entry.url.startswith("git+"), hashes=hashes)  # fmt: skip


def _source(entry: Any) -> str:
    url = entry.source.url if entry.source is not None else entry.url
    if url.startswith("git+"):
        return "git+" + public_url(url[4:])
    return public_url(url)
