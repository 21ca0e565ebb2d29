"""Triton kernels, one file per op. Of the rest of fastgan they import `allocation` only, beside triton and torch.

Each module's launchers fill outputs that the caller has allocated. Prefixes: o_ offset, p_ pointer, b_ block of values,
m_ mask.
"""
