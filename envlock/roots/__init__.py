"""What a probe reads: the live machine, a folder, an image."""
