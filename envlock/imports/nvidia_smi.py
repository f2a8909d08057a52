"""nvidia-smi's table, its -q, -L and --query-gpu forms, and the two errors that it ends with.

Its "CUDA Version" ("CUDA UMD Version" from driver 610 on) is the highest that the driver supports, not
an installed one. A name that ends in "..." was cut to the column's width and is no fact.
"""

from __future__ import annotations

import re

from envlock.imports import facts as f
from envlock.imports.text import Block

_HEADER = re.compile(
    r"NVIDIA-SMI\s{1,20}(\d[\d.]{2,20})\s{1,40}(Driver|KMD) Version:\s{0,20}(\S{1,20})"
    r"(?:\s{1,40}CUDA (?:UMD )?Version:\s{0,20}(\S{1,20}))?"
)
_BUS = re.compile(r"[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.\d")
_MEMORY = re.compile(r"(\d{1,9})MiB\s*/\s*(\d{1,9})MiB")
_LIST = re.compile(r"GPU (\d{1,4}): (.{1,120}?) \(UUID: ")
_FIELD = re.compile(r"[a-z_][a-z_.]{1,60}(?: \[[\w%]{1,10}\])?\Z")
_FIELDS = {"name", "gpu_name", "driver_version", "memory.total", "compute_cap", "mig.mode.current"}
_NO_DRIVER = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver"
_LIBRARY = re.compile(r"NVML library version: (\d[\d.]{2,20})")


def find(block: Block, start: int) -> int:
    """Start at the header line; go on over lines that are drawn with bars."""
    lines = block.lines
    if "NVIDIA-SMI" not in lines[start] or not _HEADER.search(lines[start][:400]):
        return start
    end = start + 1
    while end < len(lines) and (lines[end].lstrip()[:1] in ("|", "+") or not lines[end]):
        end += 1
    return end


def parse(lines: list[str]) -> f.Facts:
    """Read the header and a row of two or three lines for each GPU."""
    facts: f.Facts = {}
    header = _HEADER.search(lines[0][:400])
    if header:
        _, what, driver, cuda = header.groups()
        f.put(facts, f.dotted(driver), "driver", "version")
        if what == "KMD":
            f.put(facts, f.dotted(driver), "driver", "kernel_module")
        f.put(facts, f.dotted(cuda or ""), "driver", "cuda")
    rows: list[f.Facts] = []
    for line in lines[1:]:
        if "Processes:" in line or "MIG devices:" in line:
            break
        cells = [cell.strip() for cell in line.strip().strip("|")[:400].split("|")]
        if len(cells) != 3:
            continue
        words = cells[0].split()
        if len(words) >= 2 and words[0].isdigit() and _BUS.match(cells[1]):
            named = (
                words[1:-1] if words[-1] in ("On", "Off", "N/A", "WDDM", "TCC", "MCDM", "ERR!") else words[1:]
            )
            rows.append({"name": " ".join(named)})
        elif rows:
            memory = _MEMORY.search(cells[1])
            if memory:
                rows[-1].setdefault("memory_mib", int(memory.group(2)))
            elif not cells[0] and not cells[1] and cells[2].rstrip("*") in ("Enabled", "Disabled"):
                rows[-1].setdefault("mig", cells[2].startswith("Enabled"))
    for row in rows:
        f.gpu(facts, row.pop("name"), 1, **row)
    return facts


def find_query(block: Block, start: int) -> int:
    """Start at -q's banner; go on over its keys."""
    lines = block.lines
    if "NVSMI LOG" not in lines[start]:
        return start
    end = start + 1
    while end < len(lines) and (not lines[end] or lines[end][0] == " " or " : " in lines[end]
                                or lines[end].startswith("GPU ")):  # fmt: skip
        end += 1
    return end


def parse_query(lines: list[str]) -> f.Facts:
    """Read nvidia-smi -q: the driver, then an indented block for each GPU."""
    facts: f.Facts = {}
    cards: list[f.Facts] = []
    section = ""
    for line in lines:
        key, colon, value = line.partition(" : ")
        key, value = key.strip(), value.strip()
        if not colon:
            section = key
            if re.match(r"GPU [0-9A-Fa-f]{4,8}:", key):
                cards.append({"name": None})
        elif not cards:
            _query_driver(facts, key, value)
        elif key == "Product Name":
            cards[-1]["name"] = value
        elif key == "Total" and section == "FB Memory Usage":
            memory = re.match(r"(\d{1,9}) MiB", value)
            if memory:
                cards[-1].setdefault("memory_mib", int(memory.group(1)))
        elif key == "Current" and section == "MIG Mode" and value in ("Enabled", "Disabled"):
            cards[-1].setdefault("mig", value == "Enabled")
    for card in cards:
        f.gpu(facts, card.pop("name"), 1, **card)
    return facts


def find_list(block: Block, start: int) -> int:
    """Start at a line of nvidia-smi -L; MIG devices stand indented below their GPU."""
    lines = block.lines
    if not _LIST.match(lines[start]):
        return start
    end = start + 1
    while end < len(lines) and (_LIST.match(lines[end]) or re.match(r"\s+MIG ", lines[end])):
        end += 1
    return end


def parse_list(lines: list[str]) -> f.Facts:
    """Read nvidia-smi -L."""
    facts: f.Facts = {}
    cards: list[f.Facts] = []
    for line in lines:
        found = _LIST.match(line)
        if found:
            cards.append({"name": found.group(2)})
        elif cards:
            cards[-1]["mig"] = True
    for card in cards:
        f.gpu(facts, card.pop("name"), 1, **card)
    return facts


def find_csv(block: Block, start: int) -> int:
    """Start at a header whose words are all fields of --query-gpu; go on over rows of as many cells."""
    lines = block.lines
    fields = _csv(lines[start])
    if (
        not all(_FIELD.match(field) for field in fields)
        or not {field.split()[0] for field in fields if field} & _FIELDS
    ):
        return start
    end = start + 1
    while end < len(lines) and lines[end] and len(_csv(lines[end])) == len(fields):
        end += 1
    # "name" alone is a word of any text, unless the command stands above it.
    return end if end > start + 1 and (fields != ["name"] or "--query-gpu" in block.command) else start


def parse_csv(lines: list[str]) -> f.Facts:
    """Read nvidia-smi --query-gpu=... --format=csv; memory comes with its unit or, with nounits, in MiB."""
    facts: f.Facts = {}
    fields = [field.split()[0] for field in _csv(lines[0]) if field]
    for line in lines[1:]:
        row = dict(zip(fields, _csv(line), strict=False))
        f.put(facts, f.dotted(row.get("driver_version", "")), "driver", "version")
        memory = re.match(r"(\d{1,9})(?: MiB)?\Z", row.get("memory.total", ""))
        capability = re.match(r"\d{1,2}\.\d\Z", row.get("compute_cap", ""))
        mode = row.get("mig.mode.current")
        name = f.known(row.get("name", row.get("gpu_name")))
        f.gpu(facts, name, 1, compute_capability=capability.group() if capability else None,
              memory_mib=int(memory.group(1)) if memory else None,
              mig=(mode == "Enabled") if mode in ("Enabled", "Disabled") else None)  # fmt: skip
    return facts


def find_failure(block: Block, start: int) -> int:
    """Start at one of nvidia-smi's two last words."""
    line = block.lines[start]
    return start + 1 if _NO_DRIVER in line or "NVML library version: " in line else start


def parse_failure(lines: list[str]) -> f.Facts:
    """Read an error: no driver answers, or the user-space version of one that does not fit its module."""
    facts: f.Facts = {}
    for line in lines:
        library = _LIBRARY.search(line[:400])
        if library:
            f.put(facts, library.group(1), "driver", "version")
        elif _NO_DRIVER in line:
            f.put(
                facts,
                "nvidia-smi could not communicate with the NVIDIA driver",
                "capture",
                "unobserved",
                "driver",
            )
    return facts


def _query_driver(facts: f.Facts, key: str, value: str) -> None:
    if key in ("Driver Version", "KMD Version"):
        f.put(facts, f.known(value) and f.dotted(value), "driver", "version")
        if key == "KMD Version":
            f.put(facts, f.dotted(value), "driver", "kernel_module")
    elif key in ("CUDA Version", "CUDA UMD Version"):
        f.put(facts, f.known(value) and f.dotted(value), "driver", "cuda")


def _csv(line: str) -> list[str]:
    return [cell.strip() for cell in line[:1000].split(",")]
