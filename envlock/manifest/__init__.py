"""The manifest: typed model, TOML in and out, digests, addresses."""
