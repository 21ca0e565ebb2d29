"""The networks of recipes."""

from fastgan import recipes


def pair_of(name, *changes):
    """The generator and the critic of a recipe, with changes as for `fastgan.recipes.read`."""
    task = recipes.read(name, changes).build({})
    return task.generators["generator"], task.critics["critic"]


def grey(name):
    """Those for grey 8x8 images."""
    return pair_of(name, "data.resolution=8", "data.channels=1")
