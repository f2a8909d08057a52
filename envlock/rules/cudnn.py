"""Rules about cuDNN: which copy is loaded, and does it fit."""
