"""Training: `fit` trains a task that is given as an object; recipes (`fastgan.recipes`) name theirs."""

from fastgan.train.fitting import fit
from fastgan.train.run import Run, Step
from fastgan.train.schedules import Schedule

__all__ = ["Run", "Schedule", "Step", "fit"]
