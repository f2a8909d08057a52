"""Every reader of outside data, given anything: see README.md."""
