"""Questions that only the live machine can answer; each module is run by itself in a child process."""
