"""The methods that are compared on DiracGAN, by name."""

from fastgan.toys.dirac import DiracRecipe

DIRAC_RECIPES: dict[str, DiracRecipe] = {
    "minimax, simultaneous": DiracRecipe("minimax", "simultaneous"),
    "minimax, alternating": DiracRecipe("minimax"),
    "non-saturating, simultaneous": DiracRecipe(game="simultaneous"),
    "non-saturating, alternating": DiracRecipe(),
    "hinge": DiracRecipe("hinge"),
    "least squares": DiracRecipe("least_squares"),
    "relativistic pairing": DiracRecipe("relativistic_pairing"),
    "WGAN, simultaneous": DiracRecipe("wasserstein", "simultaneous"),
    "WGAN, alternating": DiracRecipe("wasserstein"),
    "WGAN, clipped": DiracRecipe("wasserstein", clip=1.0),
    "WGAN-GP": DiracRecipe("wasserstein", penalty="wgan-gp:1"),
    "WGAN-GP, 5 critic steps": DiracRecipe("wasserstein", "alternating:5", penalty="wgan-gp:1"),
    "DRAGAN": DiracRecipe(penalty="dragan:1"),
    "instance noise": DiracRecipe(noise=1.0),
    "R1": DiracRecipe(penalty="r1:1"),
    "R2": DiracRecipe(penalty="r2:1"),
    "relativistic pairing, R1 + R2": DiracRecipe("relativistic_pairing", penalty="r1:1,r2:1"),
    "consensus": DiracRecipe(game="consensus:1"),
    "extragradient": DiracRecipe(game="extragradient"),
    "extrapolation from the past": DiracRecipe(game="past-extragradient"),
    "optimistic": DiracRecipe(game="optimistic"),
    "variance-reduced extragradient": DiracRecipe(game="variance-reduced"),
    "lookahead": DiracRecipe(game="lookahead:5:0.5"),
    "symplectic adjustment": DiracRecipe(game="symplectic"),
    "competitive descent": DiracRecipe(game="competitive"),
    "follow-the-ridge": DiracRecipe(game="follow-the-ridge"),
    "follow-the-ridge, R1": DiracRecipe(game="follow-the-ridge", penalty="r1:1"),
    "Runge-Kutta 2": DiracRecipe(game="runge-kutta:2"),
    "Runge-Kutta 4": DiracRecipe(game="runge-kutta:4"),
    "ODE-GAN: Runge-Kutta 2, regularised": DiracRecipe(game="runge-kutta:2:1"),
    "drift correction": DiracRecipe(game="drift-correction"),
}
"""Non-saturating loss, alternating descent and a learning rate of 0.5, but for what the name says."""
