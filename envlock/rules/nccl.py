"""Rules about NCCL: which copy is loaded, and does it fit."""
