"""Compatibility data as TOML, a source for every row, and its loader."""
