"""Runs benchmarks/agreement.py over a prefix: a capture beside independent sources, fact by fact."""

import json
import subprocess
import sys
from pathlib import Path

from tests.packages_support import clean_environ

TOP = Path(__file__).parent.parent


def agreement(prefix, folder):
    """Return what agrees, and what differs, by fact."""
    out = folder / "agreement.json"
    command = [sys.executable, TOP / "benchmarks/agreement.py", prefix, "--json", out]
    done = subprocess.run(command, env=clean_environ(), capture_output=True, text=True, check=False)
    assert out.is_file(), done.stderr
    rows = json.loads(out.read_text())
    differing = [row for row in rows if row["verdict"] == "differ"]
    assert done.returncode == bool(differing)
    return {row["fact"] for row in rows if row["verdict"] == "agree"}, differing
