"""Compiled arithmetic as data: the shared header, the CPU fast path in C++, the CUDA kernel and its PTX."""
