"""The methods whose mode coverage is compared on mixtures in the plane, by name: changes of the recipe `points`."""

from collections.abc import Iterable

from fastgan import recipes
from fastgan.recipes import Recipe

PLAIN = (
    "task.loss=nonsaturating", "task.penalty=", "run.steps=10000", "run.ema=0",
    "game.lr=1e-3", "game.lr_critic=1e-3", "game.beta1=0.5",
)  # fmt: skip
"""Non-saturating loss, alternating Adam at a constant learning rate, the last weights."""

PLANE_RECIPES: dict[str, tuple[str, ...]] = {
    "plain": PLAIN,
    "unrolled, 5 steps": (*PLAIN, "task.loss=minimax", "game.unroll=5", "run.steps=4000", "game.lr_critic=1e-4"),
    "minibatch discrimination": (*PLAIN, "task.minibatch=16"),
    "packing": (*PLAIN, "task.pack=4"),
    "WGAN-GP": (
        *PLAIN, "task.loss=wasserstein", "game.kind=alternating:5", "task.penalty=wgan-gp:1", "run.steps=4000",
        "game.beta1=0", "game.beta2=0.9",
    ),
    "R1 + R2, relativistic": (),
    "extragradient": (*PLAIN, "game.kind=extragradient"),
    "optimistic": (*PLAIN, "game.kind=optimistic"),
    "lookahead": (*PLAIN, "game.kind=lookahead:5:0.5"),
    "consensus": (*PLAIN, "game.kind=consensus:0.1", "run.steps=5000"),
    "competitive descent": (
        *PLAIN, "task.loss=minimax", "game.kind=competitive:1e-2:5", "run.steps=3000", "game.lr=0.1",
        "game.lr_critic=0.1",
    ),
}  # fmt: skip
"""Methods whose steps take several gradients take fewer steps."""


def plane_recipe(method: str, mixture: str, seed: int = 0, changes: Iterable[str] = ()) -> Recipe:
    """The recipe of a method on a mixture, `ring` or `grid`, with further changes as for `fastgan.recipes.read`.

    Raises:
        UserError: a change is unknown or out of range.
    """
    own = (f"data.image={mixture}", f"run.seed={seed}", "run.device=cpu")
    return recipes.read("points", [*PLANE_RECIPES[method], *own, *changes])
