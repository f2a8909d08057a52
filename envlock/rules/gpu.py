"""Rules about the GPU: does the code that is installed run on it."""
