"""Runs every probe over a root; the result is one document of plain values, ready for JSON.

The document is what a zipped probe prints on another machine and what ``envlock.manifest.assemble``
turns into a manifest: ``facts`` in the manifest's shape, ``unobserved`` with reasons, and the
requirements of distributions with their markers still in them, beside the marker environment.
"""

import functools
from typing import Any, Callable, Dict, List, Optional, Tuple

from envlock.probe.cache import FileCache
from envlock.probe.observation import Observation, merge
from envlock.probe.root import Root

DOCUMENT = "envlock-observation/1"
"""The schema of the document."""

MODIFIED_LIMIT = 50
"""Modified files named for one package at most; the first ones show what happened."""


def start(
    root: Root,
    python: Optional[str] = None,
    prefix: Optional[str] = None,
    everything: bool = False,
    deep: bool = False,
    remember: bool = True,
    fork: bool = False,
) -> Callable[[], Dict[str, Any]]:
    """Begin to observe a root and return how to fetch the document.

    Raises envlock.probe.target.TargetError when the named Python is not there. One probe that fails costs its own
    facts, never the others'. ``everything`` records all system packages, not only those of the GPU stack. ``deep``
    compares every installed file with its package's own record: seconds for a small environment, minutes for one
    with CUDA wheels. Without ``remember`` no file is written: what was read of big files is not kept for the next
    time. With ``fork`` a child of this process reads the native libraries beside the rest: for a program of its own,
    not for one that holds a GPU, locks or threads.
    """
    from envlock.probe.target import find_target

    target = find_target(root, python, prefix)
    prefix_of_cache = target.prefix if target is not None else ""
    cache = FileCache(root, prefix_of_cache if remember else None)
    # Before the driver's thread: only a process of one thread may fork.
    native = _start_native(root, target, cache, fork)
    driver = _start(root, _read_driver)

    def fetch() -> Dict[str, Any]:
        with cache:
            seen = [*_look(root, target, cache, everything), native()]
            if deep and target is not None:
                read = functools.partial(_of_target, _read_modified, target)
                seen.append(_guarded("package.pip", read, root))
        whole = merge([driver(), *seen])
        return {
            "schema": DOCUMENT,
            "source": root.kind,
            "requires_dist": whole.facts.pop("_requires_dist", {}),
            "markers": whole.facts.pop("_markers", {}),
            "facts": whole.facts,
            "unobserved": whole.unobserved,
        }

    return fetch


def _look(root: Root, target: Any, cache: FileCache, everything: bool) -> List[Observation]:
    """Run every probe but the driver's and the native libraries'."""
    seen: List[Observation] = [
        _guarded(section, probe, root)
        for section, probe in (
            ("host", _read_host),
            ("os", functools.partial(_read_os, cache=cache)),
            ("toolkit", _read_toolkits),
            ("compiler", _read_compiler),
            ("container", _read_container),
            ("environ", _read_environ),
        )
    ]
    seen.append(
        _guarded("package.system", functools.partial(_read_system, everything=everything, cache=cache), root)
    )
    probes: List[Tuple[str, Callable[[Root, Any], Observation]]] = []
    if target is None:
        none = Observation()
        reason = "no Python was found: VIRTUAL_ENV, CONDA_PREFIX and PATH name none"
        none.unobserved.update({"python": reason, "package.pip": reason, "package.conda": reason})
        seen.append(none)
    else:
        probes += [
            ("python", functools.partial(_read_python, cache=cache)),
            ("package.pip", functools.partial(_read_pip, cache=cache)),
        ]
        if target.kind == "conda":
            probes.append(("package.conda", _read_conda))
    probes.append(("conda", _read_prefixes_beside))
    for section, read in probes:
        seen.append(_guarded(section, functools.partial(_of_target, read, target), root))
    return seen


def _of_target(read: Callable[[Root, Any], Observation], target: Any, root: Root) -> Observation:
    return read(root, target)


def _start(root: Root, probe: Callable[[Root], Observation]) -> Callable[[], Observation]:
    """Begin the driver's probe beside the others where it waits for a child process; return how to join it."""
    if root.kind != "live":
        return lambda: _guarded("driver", probe, root)
    import threading

    answers: List[Observation] = []
    thread = threading.Thread(target=lambda: answers.append(_guarded("driver", probe, root)), daemon=True)
    thread.start()

    def join() -> Observation:
        thread.join()
        return answers[0]

    return join


def _start_native(root: Root, target: Any, cache: FileCache, fork: bool) -> Callable[[], Observation]:
    """Begin to read libraries and frameworks, in a child if that is allowed; return how to fetch what was seen."""

    def here() -> Observation:
        read = functools.partial(_of_target, functools.partial(_read_native, cache=cache), target)
        return _guarded("library", read, root)

    if not fork or root.kind != "live":
        return here

    def plain() -> Dict[str, Any]:
        seen = here()
        return {"facts": seen.facts, "unobserved": seen.unobserved, "cache": cache.export()}

    from envlock.probe.fork import beside

    fetch = beside(plain)

    def join() -> Observation:
        answer = fetch()
        cache.absorb(answer["cache"])
        seen = Observation()
        seen.facts, seen.unobserved = answer["facts"], answer["unobserved"]
        return seen

    return join


def _guarded(section: str, probe: Callable[[Root], Observation], root: Root) -> Observation:
    """Run one probe; whatever it meets in hostile files becomes an unobserved fact with the error's text."""
    try:
        return probe(root)
    except Exception as error:  # noqa: BLE001 - one probe must never cost the capture
        failed = Observation()
        failed.unobserved[section] = f"reading it failed: {type(error).__name__}: {str(error)[:200]}"
        return failed


# Each probe's module is imported when it runs: a driver probe needs no package probe and the reverse.


def _read_driver(root: Root) -> Observation:
    from envlock.probe.driver import read_nvidia

    return read_nvidia(root)


def _read_host(root: Root) -> Observation:
    from envlock.probe.host import read_host

    return read_host(root)


def _read_os(root: Root, cache: FileCache) -> Observation:
    from envlock.probe.os_release import read_os

    return read_os(root, cache)


def _read_toolkits(root: Root) -> Observation:
    from envlock.probe.toolkit import read_toolkits

    return read_toolkits(root)


def _read_compiler(root: Root) -> Observation:
    from envlock.probe.compiler import read_compiler

    return read_compiler(root)


def _read_container(root: Root) -> Observation:
    from envlock.probe.container import read_container

    return read_container(root)


def _read_environ(root: Root) -> Observation:
    from envlock.probe.environ import read_environ

    return read_environ(root)


def _read_system(root: Root, everything: bool, cache: FileCache) -> Observation:
    from envlock.probe.system_packages import read_system_packages

    return read_system_packages(root, everything, cache)


def _read_python(root: Root, target: Any, cache: FileCache) -> Observation:
    from envlock.probe.python import read_python

    return read_python(root, target, cache)


def _read_pip(root: Root, target: Any, cache: FileCache) -> Observation:
    from envlock.probe.pip import read_pip

    return read_pip(root, target, cache=cache)


def _read_conda(root: Root, target: Any) -> Observation:
    from envlock.probe.conda import read_conda

    return read_conda(root, target)


def _read_prefixes_beside(root: Root, target: Any) -> Observation:
    from envlock.probe.target import prefixes_beside

    prefixes = prefixes_beside(root, target)
    if not prefixes:
        return Observation()
    from envlock.probe.conda import read_prefixes

    return read_prefixes(root, prefixes)


def _read_modified(root: Root, target: Any) -> Observation:
    from envlock.probe.conda import verify_conda_files
    from envlock.probe.pip import verify_files

    seen = Observation()
    for manager, verify in (("pip", verify_files), ("conda", verify_conda_files)):
        unread: Dict[str, str] = {}
        for name, paths in verify(root, target, unread=unread).items():
            seen.table("package", manager, name)["modified"] = paths[:MODIFIED_LIMIT]
        for name, reason in unread.items():
            seen.unobserved[f"package.{manager}.{name}.modified"] = reason
    return seen


def _read_native(root: Root, target: Any, cache: FileCache) -> Observation:
    """Read libraries and frameworks: both follow the same searches of the dynamic loader, once."""
    from envlock.probe.frameworks import read_frameworks, scan_environment
    from envlock.probe.libraries import read_libraries

    environment = scan_environment(root, target)
    parts = (("library", read_libraries), ("framework", read_frameworks))
    return merge(
        _guarded(section, functools.partial(_in_environment, read, target, environment, cache), root)
        for section, read in parts
    )


def _in_environment(
    read: Callable[..., Observation], target: Any, environment: Any, cache: FileCache, root: Root
) -> Observation:
    return read(root, target, environment, cache)
