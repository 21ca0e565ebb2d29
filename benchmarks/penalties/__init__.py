"""Benchmarks of the critic's step with gradient penalties: fastgan.critic_loss against plain PyTorch.

`python -m benchmarks.penalties` measures it; the other modules are the critics, the ways to take the step, the check of
their gradients, the count of convolutions, the loop, and the views of its results.
"""
