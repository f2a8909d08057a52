"""Rules about the interpreter."""
