"""Pasted reports read into manifests; what a paste does not hold stays unknown."""
