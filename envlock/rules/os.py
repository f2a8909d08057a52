"""Rules about the operating system, its C libraries and the CPU."""
