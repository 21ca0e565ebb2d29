"""Triton kernels, one file per op. They import triton and torch only and know nothing of the rest of fastgan.

Each module's launchers fill outputs that the caller has allocated. Prefixes: o_ offset, p_ pointer, b_ block of values,
m_ mask.
"""
