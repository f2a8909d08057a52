"""Experiment trackers: a run's manifest is logged beside its metrics, and read back to explain why two runs differ.

``mlflow:RUN_ID`` and ``wandb:ENTITY/PROJECT/RUN_ID`` stand for a run's manifest wherever a file could.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envlock.errors import EnvlockError

if TYPE_CHECKING:
    from envlock.manifest.model import Manifest

FILE = "envlock.toml"
"""What a run's manifest is called in every tracker."""

TRACKERS = ("mlflow", "wandb")


class TrackerError(EnvlockError):
    """A run whose manifest cannot be logged or read: the library, the run or the manifest is not there."""


def load(reference: str) -> Manifest:
    """Read a manifest from a tracker's run, or else from a file; raises EnvlockError."""
    import importlib

    import envlock

    tracker, colon, run = reference.partition(":")
    if not colon or tracker not in TRACKERS:
        return envlock.load(reference)
    manifest: Manifest = importlib.import_module(f"envlock.integrations.{tracker}").load_manifest(run)
    return manifest


def current() -> Manifest:
    """Capture the environment of this interpreter, which is the one that the run uses."""
    import datetime
    import sys

    import envlock

    time = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    return envlock.capture(python=sys.executable, time=time)


def labels(manifest: Manifest) -> dict[str, str]:
    """Return the few facts that runs are searched and grouped by; a fact that was not seen is left out.

    ``driver`` and the ``gpu`` models, each framework's version under its name, the ``cuda`` that the first of them
    was built with, and the digests: runs with an equal ``digest_image`` ran the same software.
    """
    from envlock.manifest.digest import digests

    found = {f"digest_{name}": digest for name, digest in digests(manifest).items()}
    if manifest.driver.version:
        found["driver"] = manifest.driver.version
    if manifest.gpu:
        found["gpu"] = ", ".join(dict.fromkeys(gpu.name for gpu in manifest.gpu if gpu.name))
    for name in ("torch", "jax", "tensorflow"):
        framework = manifest.framework.get(name)
        if framework is not None and framework.version:
            found[name] = framework.version
            if framework.cuda:
                found.setdefault("cuda", framework.cuda)
    return {name: value for name, value in found.items() if value}
