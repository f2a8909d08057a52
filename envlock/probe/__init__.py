"""Facts from a root, by reading files; standard library only, CPython 3.8 and newer."""
