"""Every shape of report as people paste it, and exactly the facts that it holds.

reports/<name>.txt begins with a line on where such a shape occurs; reports/<name>.json holds the facts.
"""

import json
from pathlib import Path

import pytest

from envlock.imports import JSON_SHAPES, SHAPES, ImportReportError, read_report, recognise

REPORTS = sorted((Path(__file__).parent / "reports").glob("*.txt"))

WRAPPED = {"nvidia-smi-550", "pandas", "pip-show", "vllm-old", "whole-issue", "jax"}
BARE = [path for path in REPORTS if path.stem not in WRAPPED]


def pasted(name: str) -> str:
    text = (Path(__file__).parent / "reports" / f"{name}.txt").read_bytes().decode()
    where, _, report = text.partition("\n")
    assert where.startswith("where: ")
    return report


def facts(text: str) -> dict:
    manifest = read_report(text)
    assert manifest.pop("schema") == "envlock/1"
    if manifest["capture"] == {"source": "import"}:
        del manifest["capture"]
    return manifest


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_holds_exactly_these_facts(path: Path) -> None:
    assert facts(pasted(path.stem)) == json.loads(path.with_suffix(".json").read_text())


@pytest.mark.parametrize("path", BARE, ids=lambda path: path.stem)
def test_wrapping_changes_nothing(path: Path) -> None:
    report = pasted(path.stem)
    lines = report.replace("\r\n", "\n").splitlines()
    wrapped = [
        "- [x] I searched",
        "<details><summary>env</summary>",
        "",
        "   ```text",
        *("   " + line for line in lines),
    ]
    wrapped += ["   ```", "</details>"]
    assert facts("\r\n".join(f"> {line}" for line in wrapped)) == json.loads(
        path.with_suffix(".json").read_text()
    )


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_names_nobody(path: Path) -> None:
    written = json.dumps(read_report(pasted(path.stem)))
    for secret in ("jdoe", "jd775", "s3cr3t", "hunter2", "ghp_", "hf_abc", "topsecret", "ab-12345678", "trainbox", "node-17",
                   "ip-172", "10.1.2.3", "10.0.0.7", "10.11.12", "buildbox"):  # fmt: skip
        assert secret not in written


def test_every_shape_has_a_report() -> None:
    seen = {section.shape for path in REPORTS for section in recognise(pasted(path.stem))}
    assert {shape.name for shape in (*SHAPES, *JSON_SHAPES)} - seen == set()


def test_manifest_accepts_every_report() -> None:
    import msgspec

    from envlock.manifest.model import Manifest

    for path in REPORTS:
        msgspec.convert(read_report(pasted(path.stem)), Manifest)


def test_first_word_stands() -> None:
    text = (
        "NVIDIA-SMI 535.54.03  Driver Version: 535.54.03  CUDA Version: 12.2\n\ntorch==2.4.0\ntorch==2.3.0\n"
    )
    later = "\nNVIDIA-SMI 470.57.02  Driver Version: 470.57.02  CUDA Version: 11.4\n"
    found = facts(text + later)
    assert found["driver"] == {"version": "535.54.03", "cuda": "12.2"}
    assert found["package"]["pip"]["torch"]["version"] == "2.4.0"


def test_one_package_that_both_list_is_condas() -> None:
    pip = "[pip3] numpy==1.26.4\n[pip3] torch==2.0.0\n"
    both = pip + "[conda] numpy 1.26.4 py311h0 conda-forge\n[conda] pytorch 1.13.0 py3_0 pytorch\n"
    package = facts(both)["package"]
    assert package["conda"]["numpy"]["build"] == "py311h0"
    assert package["pip"] == {"torch": {"version": "2.0.0"}}


def test_gpus_of_two_reports_complete_each_other() -> None:
    found = facts(pasted("sglang-mixed") + "\n" + pasted("nvidia-smi-csv"))
    assert [card["name"] for card in found["gpu"]] == ["NVIDIA A40", "NVIDIA GeForce RTX 3090"]
    cut = facts("GPU models and configuration: GPU 0: NVIDIA GeForce RTX 3090\n" + pasted("nvidia-smi-460"))
    assert cut["gpu"] == [{"name": "NVIDIA GeForce RTX 3090", "count": 1, "memory_mib": 24265}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no report that envlock knows"),
        (
            "It does not work on my machine.\n\nPlease help: numpy 1.2 and torch >= 2!\n",
            "no report that envlock knows",
        ),
        ('{"a": [1, 2]}', "no report that envlock knows"),
        (
            "Collecting environment information...\nPyTorch version: N/A\nIs CUDA available: N/A\n",
            "collect_env",
        ),
    ],
)
def test_says_what_to_paste(text: str, words: str) -> None:
    with pytest.raises(ImportReportError, match=words):
        read_report(text)


def test_refuses_what_is_no_paste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envlock.imports.SIZE_LIMIT", 2**20)
    with pytest.raises(ImportReportError, match="2 MiB, more than the 1 MiB"):
        recognise("x" * 2**21)


def test_brackets_of_other_reports_do_not_use_up_the_json_attempts() -> None:
    listed = "".join(f"[pip3] package{number}==1.{number}\n" for number in range(100))
    found = facts(listed + "\n" + pasted("pip-list-json"))
    assert found["package"]["pip"]["torch"] == {"version": "2.5.1+cpu"}
    assert len(found["package"]["pip"]) == 103


def test_conda_rows_are_not_taken_for_pixis() -> None:
    found = facts("cuda-version              12.4                 h3060b56_3    conda-forge\n")
    assert found["package"]["conda"]["cuda-version"]["channel"] == "conda-forge"


def test_one_column_is_a_table_only_below_its_command() -> None:
    query = "(base) PS C:\\Users\\Jane Doe> nvidia-smi --query-gpu=name --format=csv\nname\nNVIDIA L4\n"
    assert facts(query) == {"gpu": [{"name": "NVIDIA L4", "count": 1}]}
    with pytest.raises(ImportReportError):
        facts("name\nNVIDIA L4\n")


def test_prose_and_logs_are_no_packages() -> None:
    with pytest.raises(ImportReportError):
        facts("epoch   12\nloss   0.123\nSee https://example.com/x: torch==2.0 is bad\n[notice] numpy 1.2\n")
