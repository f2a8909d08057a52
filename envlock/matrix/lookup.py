"""Questions that several rules put to the NVIDIA half of the matrix: drivers of a CUDA, and GPUs by name."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from envlock.matrix.loader import Matrix, Row

_DIGITS = re.compile(r"\d+")
_MIG = re.compile(r"\s+MIG\s.*$", re.IGNORECASE)
_MAKER = re.compile(r"^(?:nvidia|tesla|grid)\s+")


class DriverFloor(NamedTuple):
    """The oldest driver that runs programs of a CUDA release."""

    version: str
    native: bool
    """False: by minor-version compatibility, which asks for machine code: PTX of a newer minor will not run."""
    row: Row


def version_key(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a dotted version, to compare with: "525.60.13" -> (525, 60, 13).

    Zeros at the end do not count (12.4 equals 12.4.0); a version without a number is ().
    """
    numbers: list[int] = []
    for part in version.strip().split("."):
        digits = _DIGITS.match(part)
        if digits is None:
            break
        numbers.append(int(digits[0]))
        if digits[0] != part:
            break
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def minor(cuda: str) -> str:
    """Return the major.minor of a CUDA version, "12.4.131" -> "12.4"; a bare major stays as it is."""
    return ".".join(cuda.strip().split(".")[:2])


def toolkit_row(matrix: Matrix, cuda: str) -> Row | None:
    """Return the row of a CUDA release ("12.4.1"), else the first release of its minor ("12.4", "12.4.131")."""
    rows = matrix.rows("cuda", "toolkit")
    exact = (row for row in rows if row["release"] == cuda)
    return next(exact, None) or next((row for row in rows if row["cuda"] == minor(cuda)), None)


def nvcc_row(matrix: Matrix, cuda: str) -> Row | None:
    """Return the architectures that nvcc of a CUDA version builds for."""
    return next((row for row in matrix.rows("cuda", "nvcc") if row["cuda"] == minor(cuda)), None)


def family_row(matrix: Matrix, cuda: str) -> Row | None:
    """Return the minor-version compatibility of a CUDA major; there is none before CUDA 11."""
    major = cuda.strip().split(".")[0]
    return next((row for row in matrix.rows("cuda", "family") if row["major"] == major), None)


Platform = Literal["linux", "windows"]
"""Whose driver it is: the two number the drivers of one branch differently."""


def driver_for_cuda(matrix: Matrix, cuda: str, platform: Platform) -> DriverFloor | None:
    """Return the oldest driver for programs of a CUDA version; None where the matrix does not know it.

    A minor that is not known yet still runs by its major's minor-version compatibility.
    """
    column = f"driver_{platform}"
    native, family = toolkit_row(matrix, minor(cuda)), family_row(matrix, cuda)
    floors = [
        DriverFloor(row[column], row is native, row)
        for row in (native, family)
        if row is not None and column in row
    ]
    return min(floors, key=lambda floor: version_key(floor.version)) if floors else None


_WINDOWS_FROM = 450
"""From here on the matrix has every branch, so that a number between two of them tells which one it is of."""


def branch_row(matrix: Matrix, driver: str | None, platform: Platform = "linux") -> Row | None:
    """Return the branch of a driver version ("535.104.05" is of 535); None for one that is not known.

    On Windows a branch counts on up to the next one (the CUDA release notes pair 535.104.05 with 537.13). Of a number
    beyond the newest branch that is known, nobody can tell whether it begins another.
    """
    rows, number = matrix.rows("driver", "branch"), (driver or "").strip().split(".")[0]
    exact = next((row for row in rows if row["branch"] == number), None)
    if exact or platform == "linux" or not number.isdigit() or int(number) < _WINDOWS_FROM:
        return exact
    older = [row for row in rows if int(row["branch"]) < int(number)]
    return max(older, key=lambda row: int(row["branch"])) if len(older) < len(rows) else None


def gpu_row(matrix: Matrix, name: str) -> Row | None:
    """Return the row of a GPU by the name that nvidia-smi, NVML or PCI lists print; None where it is not known.

    Drivers before R470 leave the maker's name out, MIG devices add theirs. Of a data-centre GPU the form factor,
    memory or vGPU profile behind the name may be one that is not listed: its capability is that of the model.
    """
    wanted = _bare(name)
    begins: Row | None = None
    longest = 0
    for row in matrix.rows("gpu", "gpu"):
        for known in (row["name"], *row.get("also", ())):
            bare = _bare(known)
            if bare == wanted:
                return row
            follows = wanted[len(bare) : len(bare) + 1] in ("-", " ") and wanted.startswith(bare)
            if follows and row["line"] == "data centre" and len(bare) > longest:
                begins, longest = row, len(bare)
    return begins


def _bare(name: str) -> str:
    text = " ".join(_MIG.sub("", name).lower().split())
    while (shorter := _MAKER.sub("", text)) != text:
        text = shorter
    return text
