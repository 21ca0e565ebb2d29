"""One step of training: the game's optimiser moves both players."""

from collections.abc import Iterator
from dataclasses import replace

from fastgan.games import VarianceReducedExtragradient
from fastgan.games.player import Closure
from fastgan.losses.began_loss import Began
from fastgan.train.closures import Closures
from fastgan.train.regularisation import NO_REGULARISATION, Regularisation
from fastgan.train.results import Step
from fastgan.train.state import TrainState


def train_step(state: TrainState, regularisation: Regularisation = NO_REGULARISATION) -> Step:
    """One step of the game's optimiser; by default algorithm 1 of Goodfellow et al. 2014 with k = 1."""
    annealed = state.anneal()
    if isinstance(state.game, VarianceReducedExtragradient) and (state.epoch_begins or not state.game.memory):
        state.game.snapshot(_epoch(state, regularisation))
    taken = Closures(state, regularisation)
    state.game.step(taken.critic, taken.generator)
    state.clip()
    if isinstance(state.loss, Began) and taken.step.outputs is not None:
        state.loss.update(*taken.step.outputs)
    state.step += 1
    state.average.update(state.generator, state.step)
    return replace(taken.step, annealed=annealed)


def _epoch(state: TrainState, regularisation: Regularisation) -> Iterator[tuple[Closure, Closure]]:
    for batch in state.every_batch():
        of_batch = Closures(state, regularisation, batch)
        yield of_batch.critic, of_batch.generator
