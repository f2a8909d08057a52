"""``envlock advise`` as a user runs it."""

import json

import jsonschema

from tests.cli.support import EXAMPLES, TOP, run

SCHEMA = json.loads((TOP / "schemas" / "report.schema.json").read_text())
INDEX = "https://download.pytorch.org/whl"


def report(*arguments, code):
    done = run("advise", *arguments, "--json")
    assert done.returncode == code, done.stderr
    found = json.loads(done.stdout)
    jsonschema.validate(found, SCHEMA)
    return found


def test_the_answer_comes_first_then_the_command():
    done = run("advise", "torch==2.9.*", "--gpu", "NVIDIA H100", "--driver", "550.54", "--python", "3.11")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(
        "torch==2.9.*: 4 of 6 known builds run on NVIDIA H100 (sm_90), driver 550.54, Python 3.11"
    )
    assert (
        f"pip install torch==2.9.1 torchvision==0.24.1 torchaudio==2.9.1 --index-url {INDEX}/cu128"
        in done.stdout
    )
    assert "CUDA 13 needs driver 580.65.06 or newer: 2.9.1+cu130, 2.9.0+cu130" in done.stdout
    # libc was not stated: a condition, not a guess.
    assert "glibc >=2.28" in done.stdout


def test_a_bare_project_fits_one_screen():
    done = run("advise", "torch", "--gpu", "RTX 5090", "--driver", "570.86.15")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) <= 24
    assert "older (--all lists them)" not in done.stdout and " more" in done.stdout
    everything = run("advise", "torch", "--gpu", "RTX 5090", "--driver", "570.86.15", "--all")
    assert " more" not in everything.stdout and "1.12.0+cu102" in everything.stdout


def test_where_nothing_runs_another_release_is_named():
    done = run("advise", "torch==2.9.*", EXAMPLES / "old-driver.toml")
    assert done.returncode == 1
    assert "no known build runs" in done.stdout.splitlines()[0]
    assert "another release runs: torch 2.7.1+cu118" in done.stdout
    found = report("torch==2.9.*", EXAMPLES / "old-driver.toml", code=1)
    assert found["verdict"] == "problem" and len(found["builds"]) == 6
    assert all(build["against"] for build in found["builds"])


def test_stated_facts_stand_in_for_the_manifests():
    found = report("torch==2.9.1", EXAMPLES / "old-driver.toml", "--driver", "580.95.05", code=0)
    assert {build["runs"] for build in found["builds"]} == {"yes"}


def test_what_is_not_known_is_listed_apart_and_is_no_problem():
    found = report("torch==2.9.1", "--driver", "550.54.14", code=0)
    assert found["verdict"] == "unknown"
    assert {"needs": "gpu"} in found["unknown"]
    runs = {build["cuda"]: build["runs"] for build in found["builds"]}
    assert runs == {"12.8": "unknown", "12.6": "unknown", "13.0": "no"}


def test_a_release_newer_than_the_matrix_is_unknown_and_says_how_far_it_goes():
    done = run("advise", "torch==99.*", "--gpu", "9.0", "--driver", "580.95.05")
    assert done.returncode == 0
    assert done.stdout.startswith("the matrix has no build of torch==99.*; the newest it has is 2.")
    assert report("torch==99.*", "--gpu", "9.0", "--driver", "580", code=0)["verdict"] == "unknown"


def test_slips_are_named_in_one_sentence():
    for arguments, said in (
        (("torch", "--gpu", "RTX 9999"), "the matrix has no GPU 'RTX 9999'"),
        (("numpy",), "the matrix has no builds of 'numpy'"),
        (("torch==x",), "is not a requirement"),
        (("torch", "--driver", "new"), "is not a version such as"),
        (("torch", "--python", "3"), "is not a version such as"),
    ):
        done = run("advise", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr and "Traceback" not in done.stderr
