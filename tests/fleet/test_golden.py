"""A bad day of 34 nodes in every format, as a reader would judge it, and a good day of 32."""

import json
import os
from pathlib import Path

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.support import TOP, run, run_here
from tests.fleet.support import ODD, POLICY, SILENT, node, write

GOLDEN = Path(__file__).parent / "golden"
SCHEMA = json.loads((TOP / "schemas" / "report.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    return write(tmp_path_factory.mktemp("bad"), 32, ODD, SILENT)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write(tmp_path_factory.mktemp("good"), 32)


@pytest.fixture(scope="module")
def lock(tmp_path_factory):
    path = tmp_path_factory.mktemp("lock") / "job.lock.toml"
    path.write_text(node(1) + POLICY, encoding="utf-8")
    return path


def golden(name, text):
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, f"{name} differs; UPDATE_GOLDEN=1 writes it anew"


@pytest.mark.parametrize(("form", "suffix"), [("text", "txt"), ("markdown", "md"), ("prometheus", "prom")])
def test_diff(bad, form, suffix):
    done = run_here("fleet", "diff", bad, "--format", form)
    assert (done.returncode, done.stderr) == (1, "")
    golden(f"diff.{suffix}", done.stdout)


@pytest.mark.parametrize(("form", "suffix"), [("text", "txt"), ("markdown", "md"), ("prometheus", "prom")])
def test_verify(bad, lock, form, suffix, monkeypatch):
    monkeypatch.chdir(lock.parent)
    done = run_here("fleet", "verify", "job.lock.toml", bad, "--format", form)
    assert (done.returncode, done.stderr) == (1, "")
    golden(f"verify.{suffix}", done.stdout)


def test_json_fits_its_schema_and_says_the_same(bad, lock):
    for arguments in (("diff", bad), ("verify", lock, bad)):
        done = run_here("fleet", *arguments, "--json")
        report = json.loads(done.stdout)
        jsonschema.validate(report, SCHEMA)
        assert report["command"] == f"fleet {arguments[0]}" and report["verdict"] == "problem"
        first, second = report["oddities"][:2]
        assert (first["nodes"], first["finding"]["subject"], first["severity"]) == (
            ["node023"],
            "library.nccl",
            "error",
        )
        assert (second["nodes"], second["cause"]["address"]) == (["node017"], "driver.version")
        assert report["failed"] == SILENT
    assert report["drifted"][0]["nodes"] and "node010" in report["matching"]


def test_html_names_every_odd_node(bad, lock, tmp_path):
    for arguments in (("diff", bad), ("verify", lock, bad)):
        run_here("fleet", *arguments, "--format", "html", "-o", tmp_path / "page.html")
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert all(f"node{number:03}" in page for number in (5, 6, 9, 17, 23))
        assert 'title="node032"' in page and "node[033-034]" in page


def test_a_good_day_is_two_lines_and_exit_code_0(good, lock):
    done = run_here("fleet", "diff", good)
    assert (done.returncode, done.stdout, done.stderr) == (0, "32 nodes, all equal\n", "")
    done = run_here("fleet", "verify", lock, good)
    assert done.returncode == 0 and done.stdout == f"32 nodes, all of which match {lock}\n"
    page = run_here("fleet", "diff", good, "--format", "html")
    assert page.returncode == 0 and "<td" not in page.stdout
    families = {
        each.name: each
        for each in text_string_to_metric_families(
            run_here("fleet", "diff", good, "--format", "prometheus").stdout
        )
    }
    assert families["envlock_finding"].samples == []
    assert {s.labels["state"]: s.value for s in families["envlock_nodes"].samples} == {
        "equal": 32, "apart": 0, "failed": 0, "uncompared": 0,
    }  # fmt: skip


def test_nodes_that_gave_nothing_are_a_problem_even_where_the_others_are_equal(tmp_path):
    done = run_here("fleet", "diff", write(tmp_path, 3, failed={"node009": "no route to host"}))
    assert done.returncode == 1 and done.stdout.startswith("3 nodes, all equal; 1 gave no manifest\n")
    assert "   node009: no route to host\n" in done.stdout


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "no fleet"),
        (lambda folder: (folder / "a.toml").write_text("x"), "no node has a manifest (a)"),
        (lambda folder: (folder / "index.json").write_text("{"), "index.json: not an index"),
    ],
)
def test_a_fleet_without_any_manifest_is_exit_code_2_and_one_sentence(tmp_path, make, said):
    make(tmp_path)
    for arguments in (("diff", tmp_path), ("verify", TOP / "examples" / "train-h100.toml", tmp_path)):
        done = run_here("fleet", *arguments)
        assert done.returncode == 2 and done.stdout == ""
        assert said in done.stderr and done.stderr.count("\n") == 1


def test_a_waiver_of_the_lock_silences_what_it_names_and_no_more(bad, lock):
    done = run_here("fleet", "verify", lock, bad)
    assert "kernel" not in done.stdout and "[nodes-differ]" in done.stdout
    diff = run_here("fleet", "diff", bad)
    assert "kernel 5.15.0-91-generic" in diff.stdout


def test_what_is_each_node_s_own_is_no_drift_from_a_lock_that_was_taken_on_one(tmp_path):
    for number in range(1, 13):
        text = node(number, environ=f'TMPDIR = "/scratch/n{number}"\nNCCL_DEBUG_FILE = "/tmp/{number}.log"\n')
        (tmp_path / f"n{number}.toml").write_text(text, encoding="utf-8")
    done = run_here("fleet", "verify", tmp_path / "n1.toml", tmp_path)
    assert done.returncode == 0 and "each node has its own, not compared: environ.TMPDIR" in done.stdout


def test_a_fleet_from_a_pipe(bad):
    header = {"schema": "envlock-fleet/1", "engine": "slurm", "asked": ["a", "b"]}
    done = run(
        "fleet",
        "diff",
        "-",
        stdin=json.dumps(header)
        + "\n"
        + json.dumps({"node": "a", "manifest": {"schema": "envlock/1"}})
        + "\n",
    )
    assert done.returncode == 1 and "b: not reached" in done.stdout


def test_the_file_for_the_collector_is_replaced_in_one_step_and_parses(bad, tmp_path):
    target = tmp_path / "envlock.prom"
    target.write_text("old\n")
    before = target.stat().st_ino
    assert run_here("fleet", "diff", bad, "--format", "prometheus", "-o", target).returncode == 1
    assert target.stat().st_ino != before and [each.name for each in tmp_path.iterdir()] == ["envlock.prom"]
    names = [each.name for each in text_string_to_metric_families(target.read_text())]
    assert names == [
        "envlock_nodes",
        "envlock_groups",
        "envlock_finding",
        "envlock_finding_unlisted",
        "envlock_node_apart",
    ]


def test_one_page_holds_any_number_of_nodes_and_kinds_of_node():
    from envlock.compare.nodes import compare_nodes
    from envlock.fleet.census import take
    from envlock.fleet.store import Entry
    from envlock.matrix.loader import load
    from envlock.reports import nodes_text
    from envlock.reports.style import Style

    texts = {f"n{number:04}": node(number % 50, **ODD.get(number % 40, {})) for number in range(1, 2001, 2)}
    texts |= {
        f"m{number:03}": node(number, driver=f"550.{number}.1", numpy=f"1.{number}") for number in range(40)
    }
    found = take(Entry(name, place=name, content=text.encode()) for name, text in texts.items())
    failed = {f"f{number:03}": f"exit code {number}" for number in range(90)}
    page = nodes_text.comparison(compare_nodes(found.kinds, load(), failed=failed), Style(colour=False))
    assert len(page.splitlines()) < 70 and max(map(len, page.splitlines())) < 500
    assert "and 85 more reasons (--all lists them)" in page


def test_what_nodes_could_not_see_is_said_once(tmp_path):
    for number in range(1, 6):
        blind = node(number).replace(
            "[host]", '[capture.unobserved]\nlibrary = "no"\ncompiler = "no"\n\n[host]'
        )
        (tmp_path / f"n{number}.toml").write_text(blind if number < 4 else node(number), encoding="utf-8")
    done = run_here("fleet", "diff", tmp_path)
    assert done.returncode == 0
    assert done.stdout == "5 nodes, all equal\n\nnot seen, and so not compared: compiler, library (n[1-3])\n"
