"""MLflow: the manifest as an artifact of the run, its digests and versions as tags."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any

from envlock.integrations import FILE, TrackerError, current, labels

if TYPE_CHECKING:
    from envlock.manifest.model import Manifest


def log_manifest(manifest: Manifest | None = None, run_id: str | None = None) -> Manifest:
    """Log a manifest, by default of this interpreter's environment, to a run, by default the active one.

    The run gets the artifact ``envlock.toml`` and tags that begin with ``envlock.`` (see ``integrations.labels``).
    Returns the manifest. Raises EnvlockError where MLflow, the run or its store is not there.
    """
    from envlock.manifest.write import write

    mlflow = _mlflow()
    active = mlflow.active_run()
    if run_id is None and active is None:
        raise TrackerError(
            "there is no active MLflow run: call this within mlflow.start_run(), or give run_id"
        )
    run = run_id or active.info.run_id
    held = manifest or current()
    client = mlflow.MlflowClient()
    try:
        client.log_text(run, write(held), FILE)
        for name, value in labels(held).items():
            client.set_tag(run, f"envlock.{name}", value)
    except (mlflow.exceptions.MlflowException, OSError) as error:
        raise TrackerError(f"cannot log to the MLflow run {run}: {_said(error)}") from None
    return held


def load_manifest(run_id: str) -> Manifest:
    """Read the manifest of a run from the tracking store in use (MLFLOW_TRACKING_URI); raises EnvlockError."""
    from envlock.manifest.read import SIZE_LIMIT, loads, read_source

    mlflow = _mlflow()
    name = f"mlflow:{run_id}"
    try:
        client = mlflow.MlflowClient()
        client.get_run(run_id)
        found = [each for each in client.list_artifacts(run_id) if each.path == FILE]
        if not found:
            raise TrackerError(
                f"{name} has no {FILE}: log one in the run with envlock.integrations.mlflow.log_manifest()"
            )
        if (found[0].file_size or 0) > SIZE_LIMIT:
            raise TrackerError(
                f"{name}: {FILE} is larger than {SIZE_LIMIT // 2**20} MiB, which no manifest is"
            )
        with tempfile.TemporaryDirectory() as folder:
            client.download_artifacts(run_id, FILE, folder)
            text = read_source(os.path.join(folder, FILE))
    except (mlflow.exceptions.MlflowException, OSError) as error:
        raise TrackerError(f"cannot read {name} from {_store(mlflow)}: {_said(error)}") from None
    return loads(text, name)


def _mlflow() -> Any:
    try:
        import mlflow
    except ImportError as error:
        raise TrackerError(f"MLflow cannot be imported ({error}): pip install mlflow-skinny") from None
    return mlflow


def _store(mlflow: Any) -> str:
    from envlock.probe.redact import mask_url

    return mask_url(str(mlflow.get_tracking_uri()))


def _said(error: Exception) -> str:
    from envlock.probe.redact import mask_url

    return mask_url(str(error).partition("\n")[0][:300])
