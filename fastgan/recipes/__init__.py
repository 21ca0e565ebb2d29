"""Recipes: YAML that names a task, its networks and data, and the numbers they were tuned with.

from fastgan import recipes

recipes.start(recipes.read("digits-dcgan", ["run.steps=2000"]), out="runs/digits")
images = recipes.load("runs/digits").task.sample(64)
"""

from fastgan.recipes.recipe import Recipe, names, read, resolved
from fastgan.recipes.starting import kept_recipe, run_of, start
from fastgan.recipes.trained import Trained, load

__all__ = ["Recipe", "Trained", "kept_recipe", "load", "names", "read", "resolved", "run_of", "start"]
