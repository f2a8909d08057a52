"""What differs between manifests, and which difference is to blame."""
