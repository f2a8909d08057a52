"""Canned index answers through tools/refresh_matrix.py; nothing here reaches the network."""

from __future__ import annotations

import datetime
import importlib.util
import os
import sys

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOOL = os.path.join(os.path.dirname(os.path.dirname(__file__)), "tools", "refresh_matrix.py")
if not os.path.exists(TOOL):
    pytest.skip("tools/ is not part of a source distribution", allow_module_level=True)
spec = importlib.util.spec_from_file_location("refresh_matrix", TOOL)
assert spec and spec.loader
tool = importlib.util.module_from_spec(spec)
sys.modules["refresh_matrix"] = tool
spec.loader.exec_module(tool)

TODAY = datetime.date(2027, 1, 2)

FILE = """\
# PyTorch: a piece of the real file.

[keys]
build = ["version", "cuda"]
companion = ["package", "version"]
release = ["version"]

[[release]]
version = "2.9.0"
python = ">=3.10,<3.15"
cuda = "12.8"
cuda_runtime = "12.8.90"
cudnn = "9.10.2.21"
nccl = "2.27.5"
triton = "3.5.0"
numpy = ["1", "2"]
source = "wheel metadata of torch 2.9.0 (PyPI)"
read = 2026-11-23

[[build]]
version = "2.9.0"
cuda = "12.8"
archs = ["7.0"]
source = "wheel metadata of torch 2.9.0 (PyPI)"
read = 2026-11-23

[[companion]]
package = "torchvision"
version = "0.24.0"
torch = "==2.9.0"
source = "wheel metadata of torchvision 0.24.0 (PyPI)"
read = 2026-11-23
"""

TORCH = """\
Metadata-Version: 2.4
Name: torch
Requires-Dist: filelock
Requires-Dist: nvidia-cuda-runtime-cu12=={runtime}; platform_system == "Linux" and platform_machine == "x86_64"
Requires-Dist: nvidia-cudnn-cu12==9.10.2.21; platform_system == "Linux"
Requires-Dist: nvidia-nccl-cu12==2.27.5; platform_system == "Linux" and platform_machine == "x86_64"
Requires-Dist: nvidia-nccl-cu11==2.1; platform_system == "Darwin"
Requires-Dist: triton==3.5.0; platform_system == "Linux" and python_version < "3.12"
Requires-Dist: optree>=0.13.0; extra == "optree"
"""
# torch 2.11 names its CUDA libraries by one requirement with extras, torchvision's oldest used parentheses.
TORCH_TOOLKIT = """\
Name: torch
Requires-Dist: cuda-toolkit[cublas,cudart]==13.0.2; platform_system == "Linux"
Requires-Dist: nvidia-cudnn-cu13==9.19.0.56; platform_system == "Linux"
Requires-Dist: triton~=3.8.0; platform_system == "Linux"
"""
VISION = "Name: torchvision\nRequires-Dist: numpy\nRequires-Dist: torch (=={torch})\n"


def wheel(name: str, version: str, python: str = "cp312", platform: str = "manylinux_2_28_x86_64"):
    filename = f"{name}-{version}-{python}-{python}-{platform}.whl"
    return tool.Wheel(filename, f"https://files.invalid/{filename}")


class Canned:
    """An index that knows what it was told, and counts what it is asked."""

    def __init__(self, files: dict[str, list[tuple[object, str | None]]]) -> None:
        self.files = files
        self.asked = 0

    def wheels(self, package: str):
        return [file for file, _ in self.files[package]]

    def metadata(self, wheel):
        self.asked += 1
        return next(text for files in self.files.values() for file, text in files if file == wheel)


def index(runtime: str = "12.8.90", pin: str = "2.9.0", **more: list[tuple[object, str | None]]) -> Canned:
    pythons = ("cp310", "cp313", "cp314", "cp314t")
    return Canned(
        {
            "torch": [
                *(
                    (wheel("torch", "2.9.0", python.rstrip("t")), TORCH.format(runtime=runtime))
                    for python in pythons
                ),
                (wheel("torch", "2.9.0", "cp39", "win_amd64"), "Name: torch\n"),
                *more.get("torch", []),
            ],
            "torchvision": [
                (wheel("torchvision", "0.24.0"), VISION.format(torch=pin)),
                *more.get("vision", []),
            ],
        }
    )


def test_what_has_not_changed_stays_byte_for_byte():
    assert tool.refresh(FILE, index(), TODAY) == FILE


def test_a_changed_pin_changes_its_row_and_its_day_alone():
    rows = tomllib.loads(tool.refresh(FILE, index(runtime="12.9.79"), TODAY))
    (release,) = rows["release"]
    assert (release["cuda"], release["cuda_runtime"], release["read"]) == ("12.9", "12.9.79", TODAY)
    assert release["numpy"] == ["1", "2"]  # not from the metadata: kept
    assert rows["build"] == tomllib.loads(FILE)["build"]
    assert rows["companion"] == tomllib.loads(FILE)["companion"]


def test_parenthesised_requirements_are_read():
    (companion,) = tomllib.loads(tool.refresh(FILE, index(pin="2.9.1"), TODAY))["companion"]
    assert companion["torch"] == "==2.9.1"


def test_a_new_release_gets_a_row_with_what_its_metadata_says():
    registry = index(
        torch=[
            (wheel("torch", "2.11.0", "cp310"), TORCH_TOOLKIT),
            (wheel("torch", "2.12.0rc1", "cp310"), TORCH_TOOLKIT),
            (wheel("torch", "2.8.0", "cp310"), TORCH_TOOLKIT),
        ],
        vision=[(wheel("torchvision", "0.26.0", "py3"), VISION.format(torch="2.11.0"))],
    )
    rows = tomllib.loads(tool.refresh(FILE, registry, TODAY))
    assert [row["version"] for row in rows["release"]] == ["2.9.0", "2.11.0"]
    assert rows["release"][1] == {
        "version": "2.11.0", "python": ">=3.10,<3.11", "cuda": "13.0", "cuda_runtime": "13.0.2",
        "cudnn": "9.19.0.56", "triton": "~=3.8.0", "source": "wheel metadata of torch 2.11.0 (PyPI)", "read": TODAY,
    }  # fmt: skip
    assert rows["companion"][1]["package"] == "torchvision"
    assert rows["companion"][1]["torch"] == "==2.11.0"


def test_a_version_that_has_a_row_of_another_source_gets_no_second_one():
    other = FILE[FILE.index("[[companion]]") :].replace("0.24.0", "0.26.0")
    other = other.replace("wheel metadata of torchvision 0.26.0 (PyPI)", "pytorch/vision v0.26.0 setup.py")
    registry = index(vision=[(wheel("torchvision", "0.26.0"), VISION.format(torch="2.11.0"))])
    assert tool.refresh(f"{FILE}\n{other}", registry, TODAY) == f"{FILE}\n{other}"


def test_a_new_version_whose_metadata_cannot_be_read_is_named(capsys):
    registry = index(vision=[(wheel("torchvision", "0.26.0"), None)])
    assert tool.refresh(FILE, registry, TODAY) == FILE
    assert capsys.readouterr().err.startswith("torchvision 0.26.0: no row")


def test_a_companion_that_pins_nothing_gets_no_row():
    registry = index(vision=[(wheel("torchvision", "0.30.0"), "Name: torchvision\nRequires-Dist: torch\n")])
    assert tool.refresh(FILE, registry, TODAY) == FILE


def test_a_row_whose_metadata_the_index_does_not_offer_is_kept():
    registry = index()
    registry.files["torch"] = [(file, None) for file, _ in registry.files["torch"]]
    assert tool.refresh(FILE, registry, TODAY) == FILE
    assert registry.asked <= 4  # three wheels of torch at most, one of torchvision


def many(count: int) -> str:
    row = FILE[FILE.index("[[companion]]") :]
    return FILE + "\n" + "\n".join(row.replace("0.24.0", f"0.23.{number}") for number in range(count))


def test_half_a_page_is_refused():
    with pytest.raises(tool.RefreshError, match="torchvision: the index lists 1 of the 13 versions"):
        tool.refresh(many(12), index(), TODAY)


def test_a_withdrawn_version_keeps_its_row():
    assert tool.refresh(many(1), index(), TODAY) == many(1)


@pytest.mark.parametrize(
    "name", ["cupy", "extensions", "jax", "numba", "onnxruntime", "python", "requires", "tensorflow", "torch"]
)
def test_the_files_are_in_the_form_that_the_tool_writes(name):
    with open(os.path.join(tool.MATRIX, f"{name}.toml"), encoding="utf-8") as file:
        text = file.read()
    assert tool.render(tool.head_comment(text), tomllib.loads(text)) == text


REQUIRES = """\
# What releases require.

[keys]
requirement = ["package", "on"]

[[requirement]]
package = "trl"
on = "typing-extensions"
since = ["0.1.0", "0.4.0"]
needs = [">=4.5", ">=4.7,<5"]
last = "0.5.0"
source = "huggingface/trl, setup.py of its tags"
read = 2026-11-23
"""


def trl(version: str, *lines: str):
    return wheel("trl", version, "py3", "any"), "Name: trl\n" + "".join(
        f"Requires-Dist: {e}\n" for e in lines
    )


def carried_on(*files: tuple[object, str | None]) -> dict:
    registry = Canned({"trl": [trl("0.5.0", "never read"), *files]})
    (row,) = tomllib.loads(tool.refresh(REQUIRES, registry, TODAY))["requirement"]
    return row


def test_what_newer_releases_require_is_carried_on():
    row = carried_on(
        trl("0.6.0", "typing_extensions<5,>=4.7"),
        trl("0.6.1", "Typing.Extensions (<6,!=5.1,>=4.9)", 'typing-extensions>=9; extra == "dev"'),
        trl("0.7.0", "accelerate"),
        trl("0.8.0rc1", "typing-extensions>=99"),
    )
    assert row == {
        "package": "trl", "on": "typing-extensions", "since": ["0.1.0", "0.4.0", "0.6.1", "0.7.0"],
        "needs": [">=4.5", ">=4.7,<5", ">=4.9,!=5.1,<6", ""], "last": "0.7.0", "read": TODAY,
        "source": "huggingface/trl, setup.py of its tags; wheel metadata of its releases after 0.5.0 (PyPI)",
    }  # fmt: skip


def test_a_release_that_asks_for_the_same_only_moves_the_last_one_that_was_read():
    row = carried_on(trl("0.6.0", "typing-extensions<5,>=4.7"))
    assert (row["last"], row["since"]) == ("0.6.0", ["0.1.0", "0.4.0"])


@pytest.mark.parametrize(
    "unclear",
    [
        (wheel("trl", "0.7.0", "py3", "any"), None),
        trl(
            "0.7.0",
            'typing-extensions<5; python_version < "3.9"',
            'typing-extensions>=5; python_version >= "3.9"',
        ),
    ],
)
def test_a_row_ends_before_a_release_whose_requirement_cannot_be_told(unclear, capsys):
    row = carried_on(trl("0.6.0", "typing-extensions>=5"), unclear, trl("0.8.0", "typing-extensions>=6"))
    assert (row["last"], row["needs"][-1]) == ("0.6.0", ">=5")
    assert capsys.readouterr().err.startswith("trl 0.7.0: what it asks of typing-extensions cannot be told")


def test_a_row_whose_last_release_the_index_does_not_list_is_kept(capsys):
    registry = Canned({"trl": [trl("0.6.0", "typing-extensions>=5")]})
    assert tool.refresh(REQUIRES, registry, TODAY) == REQUIRES
    assert "trl: not carried on" in capsys.readouterr().err


def test_a_long_list_is_written_over_several_lines():
    lines = tool._line("since", [f"{number}.0.0" for number in range(40)]).splitlines()
    assert lines[0] == "since = [" and lines[-1] == "]" and max(map(len, lines)) <= 112
    assert tomllib.loads("\n".join(lines)) == {"since": [f"{number}.0.0" for number in range(40)]}


@pytest.fixture
def matrix(tmp_path, monkeypatch):
    (tmp_path / "torch.toml").write_text(FILE)
    (tmp_path / "gpu.toml").write_text("not [ our business")
    monkeypatch.setattr(tool, "MATRIX", str(tmp_path))
    return tmp_path


def test_the_diff_is_shown_and_checked_but_not_written(matrix, capsys):
    assert tool.main(["--check"], index()) == 0
    assert capsys.readouterr().out == ""
    assert tool.main(["--check"], index(runtime="12.9.79")) == 1
    out = capsys.readouterr().out
    assert '-cuda = "12.8"\n+cuda = "12.9"' in out.replace('-cuda_runtime = "12.8.90"\n', "").replace(
        '+cuda_runtime = "12.9.79"\n', ""
    )
    assert out.startswith("--- a/envlock/matrix/torch.toml\n+++ b/envlock/matrix/torch.toml\n")
    assert (matrix / "torch.toml").read_text() == FILE


def test_the_files_that_are_named_are_read_alone(matrix, capsys):
    assert tool.main(["--check", "requires"], index(runtime="12.9.79")) == 0
    (matrix / "requires.toml").write_text(REQUIRES)
    assert tool.main(["--check", "requires"], Canned({"trl": [trl("0.5.0"), trl("0.6.0")]})) == 1
    assert capsys.readouterr().out.count("+++ ") == 1


def test_write_writes(matrix):
    assert tool.main(["--write"], index(runtime="12.9.79")) == 0
    assert 'cuda_runtime = "12.9.79"' in (matrix / "torch.toml").read_text()
    assert tool.main(["--check"], index(runtime="12.9.79")) == 0


def test_without_an_index_it_says_what_to_set(matrix, monkeypatch, capsys):
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    assert tool.main([]) == 2
    assert "PIP_INDEX_URL" in capsys.readouterr().err
