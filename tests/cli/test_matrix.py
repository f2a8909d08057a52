"""``envlock matrix`` as a user runs it, and the project's own matrix file."""

import datetime
import json

import jsonschema

from envlock.matrix.loader import PROJECT_FILE, load, project_files
from tests.cli.support import EXAMPLES, TOP, run

SCHEMA = json.loads((TOP / "schemas" / "report.schema.json").read_text())
LAB = """
[[gpu.gpu]]
name = "NVIDIA H100 Lab Edition"
compute_capability = "9.0"
architecture = "Hopper"
line = "data centre"
source = "the lab's own cards"

[[cuda.family]]
major = "12"
driver_linux = "560.28.03"
source = "the lab's policy"
"""


def test_an_overview_says_what_there_is_and_how_fresh():
    done = run("matrix")
    assert (done.returncode, done.stderr) == (0, "")
    first, *rest = done.stdout.splitlines()
    assert first.endswith(f"newest source read on {load().date().isoformat()}")
    subjects = {line.split()[0] for line in rest if line.startswith("  ")}
    assert subjects == set(load().subjects())


def test_rows_come_aligned_with_sources_and_date():
    done = run("matrix", "driver.branch")
    lines = done.stdout.splitlines()
    assert lines[0] == f"driver.branch  {len(load().rows('driver', 'branch'))} rows"
    column = lines[1].index("max_cuda")
    (row,) = [line for line in lines if line.strip().startswith("570 ")]
    assert row[column:].startswith("12.8")
    assert any(line.startswith("source: ") for line in lines)
    assert lines[-1].startswith("sources read until ")


def test_few_rows_are_told_in_full():
    done = run("matrix", "gpu", "h100", "pcie")
    assert "compute_capability  9.0" in done.stdout
    assert "source              " in done.stdout and "read                " in done.stdout


def test_words_narrow_and_a_version_is_no_part_of_another():
    found = json.loads(run("matrix", "torch.build", "2.9", "--json").stdout)
    assert {row["row"]["version"] for row in found["rows"]} == {"2.9"}  # 12.9 is another number


def test_words_alone_search_all_subjects():
    found = json.loads(run("matrix", "No module named 'pkg_resources'", "--json").stdout)
    assert {row["subject"] for row in found["rows"]} >= {"breakages", "errors"}
    assert run("matrix", "no such words").stdout.startswith("the matrix has no row with 'no such words'")


def test_json_fits_the_schema_and_every_row_has_a_source():
    found = json.loads(run("matrix", "nccl", "--json").stdout)
    jsonschema.validate(found, SCHEMA)
    assert datetime.date.fromisoformat(found["date"])
    assert all(row["row"]["source"] for row in found["rows"])


def test_a_users_rows_are_included_and_marked(tmp_path):
    (tmp_path / "lab.toml").write_text(LAB)
    done = run("matrix", "gpu", "h100", "--matrix", "lab.toml", cwd=tmp_path)
    assert "+ NVIDIA H100 Lab Edition" in done.stdout
    assert "  NVIDIA H100 PCIe" in done.stdout
    assert "+ added or changed by your files" in done.stdout
    found = json.loads(run("matrix", "cuda.family", "--json", "--matrix", "lab.toml", cwd=tmp_path).stdout)
    assert [row["row"]["major"] for row in found["rows"] if row.get("added")] == ["12"]


def test_the_projects_own_file_counts_for_every_command(tmp_path):
    assert project_files(str(tmp_path)) == []
    (tmp_path / PROJECT_FILE).write_text(LAB)
    assert project_files(str(tmp_path)) == [str(tmp_path / PROJECT_FILE)]
    assert "2 rows are added or changed by your files" in run("matrix", cwd=tmp_path).stdout
    # The lab asks for more than CUDA 12 itself: advice follows.
    asked = ("advise", "torch==2.9.1", "--gpu", "9.0", "--driver", "550.54.14")
    assert run(*asked, cwd=tmp_path).returncode == 1
    assert run(*asked).returncode == 0


def test_a_named_file_outranks_the_projects(tmp_path):
    (tmp_path / PROJECT_FILE).write_text(LAB)
    (tmp_path / "back.toml").write_text(
        '[[cuda.family]]\nmajor = "12"\ndriver_linux = "525.60.13"\nsource = "as NVIDIA has it"\n'
    )
    asked = ("advise", "torch==2.9.1", "--gpu", "9.0", "--driver", "550.54.14", "--matrix", "back.toml")
    assert run(*asked, cwd=tmp_path).returncode == 0


def test_a_broken_project_file_is_named_with_its_line(tmp_path):
    (tmp_path / PROJECT_FILE).write_text("[[gpu.gpu]\n")
    done = run("check", EXAMPLES / "train-h100.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"envlock: {PROJECT_FILE}:1: ")
