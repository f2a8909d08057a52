"""The lock policy, and other tools' lock files as the reference."""
