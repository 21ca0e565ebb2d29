"""The methods whose mode coverage is compared on mixtures in the plane, by name."""

from dataclasses import replace

from fastgan.toys.plane import PlaneRecipe

PLAIN = PlaneRecipe()
DEFAULT = PlaneRecipe("relativistic_pairing", penalty="r1:0.03,r2:0.03", steps=12_000, beta1=0.0, decay=True, ema=0.999)
"""What covers both mixtures: no momentum, learning rate down to zero, averaged weights."""

PLANE_RECIPES: dict[str, PlaneRecipe] = {
    "plain": PLAIN,
    "unrolled, 5 steps": replace(PLAIN, loss="minimax", unroll=5, steps=4000, lr_critic=1e-4),
    "minibatch discrimination": replace(PLAIN, minibatch=16),
    "packing": replace(PLAIN, pack=4),
    "WGAN-GP": PlaneRecipe("wasserstein", "alternating:5", "wgan-gp:1", steps=4000, beta1=0.0, beta2=0.9),
    "R1 + R2, relativistic": DEFAULT,
    "extragradient": replace(PLAIN, optimizer="extragradient"),
    "optimistic": replace(PLAIN, optimizer="optimistic"),
    "lookahead": replace(PLAIN, optimizer="lookahead:5:0.5"),
    "consensus": replace(PLAIN, optimizer="consensus:0.1", steps=5000),
    "competitive descent": replace(PLAIN, loss="minimax", optimizer="competitive:1e-2:5", steps=3000, lr=0.1),
}
"""Non-saturating loss, alternating Adam at a constant learning rate and the last weights, but for what is named.

Methods whose steps take several gradients take fewer steps."""
