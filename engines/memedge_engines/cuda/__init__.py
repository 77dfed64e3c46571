"""CUDA without a toolkit: a small driver shim with two providers, the preprocessing kernel and what runs on them."""
