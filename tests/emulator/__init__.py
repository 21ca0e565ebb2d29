"""CUDA C++ kernels run on the host: see simt_emulator.h for what is emulated and build.py for how to use it."""
