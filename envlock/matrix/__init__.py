"""Compatibility data as TOML, a source for every row, and its loader."""

from envlock.matrix.loader import Hit, Matrix, MatrixError, Row, load

__all__ = ["Hit", "Matrix", "MatrixError", "Row", "load"]
