"""The house is in order: lint, types, and the one-way flow between folders."""

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)],
    ids=" ".join,
)
def test_tool(command):
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_the_import_contracts_hold():
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_every_module_says_what_it_knows_in_its_first_line():
    for folder in ("envlock", "tests", "tools", "benchmarks"):
        for path in (TOP / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            first = text.split("\n", 1)[0]
            assert not text or (first.startswith('"""') and len(first) > 15), path


def test_probes_and_the_roots_they_travel_with_parse_on_the_oldest_python():
    import ast

    for path in [*(TOP / "envlock" / "probe").rglob("*.py"), *(TOP / "envlock" / "roots").glob("*.py")]:
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
