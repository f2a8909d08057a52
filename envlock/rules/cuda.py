"""Rules about the CUDA runtime and toolkit: what is loaded, what is mixed, what can be compiled."""
