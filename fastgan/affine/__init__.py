"""Networks that are piecewise affine in their input: record one as it runs, and replay it with its masks frozen."""

from fastgan.affine.errors import NotAffineError
from fastgan.affine.recorder import was_recorded
from fastgan.affine.recording import record
from fastgan.affine.tape import Slot, Tape

__all__ = ["NotAffineError", "Slot", "Tape", "record", "was_recorded"]
