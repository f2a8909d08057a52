"""What CONTRIBUTING.md and the pages for contributors say of the code is so, and their examples run as they stand."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomli

from envlock.rules import container, engine
from tests.rules import support

TOP = Path(__file__).parent.parent
PAGE = (TOP / "CONTRIBUTING.md").read_text(encoding="utf-8")
LAYERS = tomli.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
    "contracts"
][0]["layers"]


def parts():
    """Return the folders and modules of envlock/."""
    tracked = subprocess.run(
        ["git", "ls-files", "envlock"], cwd=TOP, capture_output=True, text=True, check=True
    ).stdout.split()
    return {path.split("/")[1] for path in tracked if path.endswith(".py")}


def folders():
    return {part for part in parts() if not part.endswith(".py")}


def named(heading):
    """Return the names in the first column of a table."""
    rows = re.search(rf"^\| {heading} \|.*\n\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)[1].splitlines()
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


def test_the_list_of_layers_is_the_import_contract():
    said = re.search(r"^`(probe < .*)`\.$", PAGE, re.MULTILINE)[1]
    listed = [{name.strip() for name in step.split(",")} for step in said.split(" < ")]
    held = [{name.strip().removeprefix("envlock.") for name in layer.split("|")} for layer in LAYERS]
    assert listed == held[::-1]
    assert folders() <= set().union(*listed)


def test_the_tables_name_every_folder_and_module():
    assert sorted(name.rstrip("/") for name in named("in `envlock/`")) == sorted(parts())
    tracked = subprocess.run(["git", "ls-files"], cwd=TOP, capture_output=True, text=True, check=True).stdout
    top = {path.split("/")[0] + "/" for path in tracked.split() if "/" in path and not path.startswith(".")}
    assert sorted(named("beside it")) == sorted(top - {"envlock/"})


def imported(path):
    """Return the folders of envlock that a module imports from."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("envlock."):
            yield node.module.split(".")[1]


def together():
    """Return the pairs of folders that one function of the library hands data between."""
    tree = ast.parse((TOP / "envlock/__init__.py").read_text(encoding="utf-8"))
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        used = {
            node.module.split(".")[1]
            for node in ast.walk(function)
            if isinstance(node, ast.ImportFrom) and node.module.startswith("envlock.")
        }
        yield from ((one, other) for one in used for other in used)


def test_the_diagram_shows_every_folder_and_only_ways_that_the_code_has():
    drawn = re.search(r"```mermaid\nflowchart LR\n(.*?)```", PAGE, re.DOTALL)[1]
    node = r'(\w+)(?:\["[^"]*"\])?'
    arrows = [re.fullmatch(rf" *{node} --> {node}", line).groups() for line in drawn.splitlines()]
    assert {name for arrow in arrows for name in arrow} == folders()
    known = {
        (folder, other)
        for folder in folders()
        for path in (TOP / "envlock" / folder).rglob("*.py")
        for other in imported(path)
    }
    known |= set(together())
    assert [arrow for arrow in arrows if not {arrow, arrow[::-1]} & known] == []


def test_no_module_imports_another_one_s_private_names():
    found = []
    for path in [
        each
        for folder in ("envlock", "tests", "tools", "benchmarks")
        for each in (TOP / folder).rglob("*.py")
    ]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                ("envlock", "tests", "tools", "benchmarks")
            ):
                found += [
                    (str(path), name.name) for name in node.names if re.match(r"_(?!_|version\b)", name.name)
                ]
    assert found == []


# ---- the pages' examples --------------------------------------------------------------------------------------


def block(page, mark):
    text = (TOP / "docs/how-to" / page).read_text(encoding="utf-8")
    return re.search(rf"<!-- {mark} -->\n```python\n(.*?)```", text, re.DOTALL)[1]


def lint(text, path):
    """Fail where the house's rules for a file at this path do not take the text."""
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--stdin-filename", path, "-"],
        cwd=TOP, input=text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_rule_of_its_page_passes_the_page_s_own_test(monkeypatch):
    # As the page says: at the end of the module that it names.
    module = (
        Path(container.__file__).read_text(encoding="utf-8") + "\n\n" + block("write-a-rule.md", "the rule")
    )
    lint(module, "envlock/rules/container.py")
    names = {"__name__": container.__name__}
    exec(compile(module, "write-a-rule.md", "exec"), names)
    added = names["shared_memory_tiny"]
    assert all(word in added.explanation for word in ("Shows itself as", "Fix:", "Source:"))
    rules = (*engine.stack_rules(), added)
    monkeypatch.setattr(engine, "stack_rules", lambda: rules)
    test = {"found": support.found, "only": support.only}
    exec(compile(block("write-a-rule.md", "the test"), "write-a-rule.md", "exec"), test)
    run = [each for name, each in test.items() if name.startswith("test_")]
    assert len(run) == 2
    for each in run:
        each()


def test_the_probe_of_its_page_passes_the_page_s_own_test(tmp_path):
    probe = block("write-a-probe.md", "the probe")
    ast.parse(probe, feature_version=(3, 8))
    lint(probe, "envlock/probe/numa.py")
    (tmp_path / "numa.py").write_text(probe)
    (tmp_path / "test_numa.py").write_text(block("write-a-probe.md", "the test"))
    (tmp_path / "conftest.py").write_text(
        f"import envlock.probe\nenvlock.probe.__path__.append({str(tmp_path)!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_numa.py"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(TOP)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert re.search(r"^(7 passed|6 passed, 1 skipped)", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.parametrize("page", ["write-a-rule.md", "write-a-probe.md"])
def test_every_file_that_a_page_names_is_there(page):
    text = (TOP / "docs/how-to" / page).read_text(encoding="utf-8") + PAGE
    # What a command prints may name files of others: a rule's source does.
    text = re.sub(r"```console\n.*?```", "", text, flags=re.DOTALL)
    paths = set(re.findall(r"\b((?:envlock|tests|tools|docs)/[\w./-]+\.\w+)\b", text))
    made = {"envlock/probe/numa.py", "tests/probe/test_numa.py"}
    assert [path for path in paths - made if not (TOP / path).exists()] == []
