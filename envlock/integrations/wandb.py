"""Weights & Biases: the manifest as a file of the run, its digests and versions in the run's config.

A run is named ``ENTITY/PROJECT/RUN_ID``, as on the server, or by its local folder (``wandb/offline-run-...``), which
is read without the library and without a network.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any

from envlock.integrations import FILE, TrackerError, current, labels

if TYPE_CHECKING:
    from envlock.manifest.model import Manifest


def log_manifest(manifest: Manifest | None = None, run: Any = None) -> Manifest:
    """Log a manifest, by default of this interpreter's environment, to a wandb run, by default the active one.

    The run gets the file ``envlock.toml`` and the config key ``envlock`` (see ``integrations.labels``), offline too.
    Returns the manifest. Raises EnvlockError where wandb or a run is not there.
    """
    from envlock.manifest.write import write

    target = run if run is not None else _wandb().run
    if target is None:
        raise TrackerError("there is no active wandb run: call this after wandb.init(), or give run")
    held = manifest or current()
    # In the run's own folder: that is where wandb uploads from, and where an offline run keeps it.
    path = os.path.join(target.dir, FILE)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(write(held))
    target.save(path, base_path=target.dir, policy="now")
    target.config.update({"envlock": labels(held)}, allow_val_change=True)
    return held


def load_manifest(run: str) -> Manifest:
    """Read the manifest of a run, from its local folder if there is one of that name; raises EnvlockError."""
    from envlock.manifest.read import load, loads, read_source

    name = f"wandb:{run}"
    if os.path.isdir(run):
        # Either the run's folder or the "files" in it, which is what run.dir says.
        places = [os.path.join(run, "files", FILE), os.path.join(run, FILE)]
        path = next((place for place in places if os.path.isfile(place)), None)
        if path is None:
            raise TrackerError(_nothing(name))
        return load(path)
    if run.count("/") != 2 or not all(run.split("/")):
        raise TrackerError(
            f"{name}: neither a run's folder nor ENTITY/PROJECT/RUN_ID; an offline run is named by its folder"
        )
    wandb = _wandb()
    try:
        with tempfile.TemporaryDirectory() as folder:
            text = read_source(_downloaded(wandb, run, name, folder))
    # Beside its own errors the library lets those of its HTTP client through, which differ from release to release.
    except (wandb.errors.Error, ValueError, OSError) as error:
        raise TrackerError(f"cannot read {name}: {_said(error)}") from None
    return loads(text, name)


def _downloaded(wandb: Any, run: str, name: str, folder: str) -> str:
    from envlock.manifest.read import SIZE_LIMIT

    found = next(iter(wandb.Api().run(run).files(names=[FILE])), None)
    if found is None:
        raise TrackerError(_nothing(name))
    if found.size > SIZE_LIMIT:
        raise TrackerError(f"{name}: {FILE} is larger than {SIZE_LIMIT // 2**20} MiB, which no manifest is")
    found.download(root=folder).close()
    return os.path.join(folder, FILE)


def _nothing(name: str) -> str:
    return f"{name} has no {FILE}: log one in the run with envlock.integrations.wandb.log_manifest()"


def _wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise TrackerError(f"wandb cannot be imported ({error}): pip install wandb") from None
    return wandb


def _said(error: Exception) -> str:
    from envlock.probe.redact import mask_url

    return mask_url(str(error).partition("\n")[0][:300])
