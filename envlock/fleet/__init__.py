"""Many machines at once: gathering their manifests, grouping them, naming the odd one out."""
