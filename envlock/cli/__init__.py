"""The envlock command: each command parses, calls the library, renders and exits."""
