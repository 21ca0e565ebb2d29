"""Runs of a few steps: recipes by the bare names of their settings, float64, and gradients of single evaluations."""

import copy
import json

import torch

from fastgan import recipes
from fastgan.train.checkpoint import read_checkpoint
from fastgan.train.settings import GameSettings, RunSettings

SMALL = {"steps": 6, "batch_size": 16, "log_every": 1, "sample_every": 100, "save_every": 100, "device": "cpu"}
SECTIONS = {
    **dict.fromkeys(RunSettings.model_fields, "run"),
    **{name: "game" for name in GameSettings.model_fields if name != "kind"},
    **dict.fromkeys(("image", "resolution", "channels", "a", "b"), "data"),
}


def recipe_of(name="digits-dcgan", **settings):
    """A recipe with settings of any section by their bare names; `game` is game.kind."""
    given = {**SMALL, **settings}
    places = {key: "game.kind" if key == "game" else f"{SECTIONS.get(key, 'task')}.{key}" for key in given}
    return recipes.read(name, [f"{places[key]}={_as_yaml(value)}" for key, value in given.items()])


def _as_yaml(value):
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else value


class _Changed:
    """A source whose samples are another's, changed."""

    def __init__(self, source, change):
        self._source, self._change = source, change

    def __getattr__(self, name):
        return getattr(self._source, name)

    def __len__(self):
        return len(self._source)

    def read(self, indices, seed):
        found = self._source.read(indices, seed)
        return {**found, "image": self._change(found["image"])}


def begun(recipe, dtype=torch.float32):
    """A run before its first step, whose engine is ready to be asked; every one of a recipe is the same."""
    run = recipes.run_of(recipe)
    run.task.to(dtype)
    if dtype != torch.float32:
        reader = run.engine.reader
        reader.sources = {name: _Changed(source, lambda x: x.to(dtype)) for name, source in reader.sources.items()}
    begin(run)
    return run


def begin(run):
    run.engine.begin(run.now())
    return run


def networks(run):
    """The generator and the critic."""
    return run.task.generators["generator"], run.task.critics["critic"]


def gradients(run, side, batch):
    """Those that the engine leaves of a side's parameters, and the loss."""
    loss = run.engine.gradient(side, batch)
    return [None if p.grad is None else p.grad.clone() for p in run.task.side(side).parameters()], loss


def watched(run):
    """The gradients along which each player's optimiser is to step; nothing moves."""
    seen = {}
    for player in run.game.players:
        seen[player.who] = found = []
        player.optimizer.step = lambda p=player, found=found: found.append([q.grad.clone() for q in p.parameters])
    return seen


def twin(run):
    """A run of the same recipe in the same state."""
    return copy.deepcopy(run)


def different(one, other):
    """The names of tensors that are not the same, bit for bit, in two checkpoints."""
    first, second = (read_checkpoint(path)[0] for path in (one, other))
    assert first.keys() == second.keys()
    return [name for name in first if not torch.equal(first[name], second[name])]


def resumed(folder, *names, **settings):
    """Carries a recipe out for four steps, at once and in halves, and finds the same bits: the run in halves."""
    chosen = {"steps": 4, **settings}
    whole = recipes.start(recipe_of(*names, **chosen), folder / "whole", quiet=True)
    recipes.start(recipe_of(*names, **{**chosen, "steps": 2}), folder / "parts", quiet=True)
    parts = recipes.start(recipe_of(*names, **chosen), folder / "parts", resume=True, quiet=True)
    assert different(whole.checkpoint, parts.checkpoint) == []
    assert (whole.folder / "log.jsonl").read_bytes() == (parts.folder / "log.jsonl").read_bytes()
    return parts.folder


def log_of(folder):
    """The lines of a run's log."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
