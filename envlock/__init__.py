"""envlock records the whole stack under a GPU program, checks it, and names the difference that breaks it."""

__version__ = "0.1.0"
