"""A critic that gives its logit with the outputs of one of its hidden layers."""

from typing import Any

import torch
from torch import Tensor, nn

from fastgan.nn.in_place import changes, counted


class LogitAndFeatures(nn.Module):
    """A critic's logit followed by the output of one of its layers, in one vector per sample.

    For objectives that compare features, `fastgan.losses.feature_matching_with` and `sliced_wasserstein`: the layer is
    one that the logit is made of, so that it learns to tell data from samples.

    Args:
        critic: any module, [B, ...] -> logits [B] or [B, 1]. Further arguments of a call, as labels, go to it.
        layer: the name of a submodule, as in `named_modules`, that is called once and returns [B, ...]. What follows it
            must leave that as it is, unlike `nn.LeakyReLU(inplace=True)`.

    Shape: [B, ...] -> [B, 1 + F], F the numbers of the layer's output for a sample.

    Raises:
        TypeError: critic is no module.
        ValueError: it has no such layer; in a call, the critic gives more than a logit, or the layer was not called
            once, returns something else, or what it returned was changed in place.
    """

    def __init__(self, critic: nn.Module, layer: str) -> None:
        super().__init__()
        if not isinstance(critic, nn.Module):
            raise TypeError(f"LogitAndFeatures: critic is {type(critic).__name__}, expected a torch.nn.Module")
        if layer not in dict(critic.named_modules()) or not layer:
            raise ValueError(f"LogitAndFeatures: layer is {layer!r}, expected the name of a submodule of the critic")
        self.critic, self.layer = critic, layer

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        found: list[tuple[Any, int]] = []

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                found.append((output if counted(output) else output.clone(), changes(output)))
            else:
                found.append((output, 0))

        # Looked up at each call, as what accelerates or normalises a critic may put another layer in its place.
        handle = self.critic.get_submodule(self.layer).register_forward_hook(keep)
        try:
            logits = self.critic(x, *labels)
        finally:
            handle.remove()
        if logits.numel() != len(x):
            raise ValueError(
                f"LogitAndFeatures: the critic gave outputs of shape {list(logits.shape)} for {len(x)} samples, "
                "expected one logit for each"
            )
        if len(found) != 1:
            raise ValueError(f"LogitAndFeatures: layer {self.layer!r} was called {len(found)} times, expected once")
        ((features, before),) = found
        if not isinstance(features, Tensor) or features.ndim < 2 or len(features) != len(x):
            what = f"shape {list(features.shape)}" if isinstance(features, Tensor) else type(features).__name__
            raise ValueError(f"LogitAndFeatures: layer {self.layer!r} returned {what}, expected [{len(x)}, ...]")
        if changes(features) != before:
            raise ValueError(
                f"LogitAndFeatures: what layer {self.layer!r} returned was changed in place by a layer after it, "
                "expected inplace=False there"
            )
        return torch.cat([logits.reshape(-1, 1), features.flatten(1).to(logits.dtype)], dim=1)

    def extra_repr(self) -> str:
        return f"layer={self.layer!r}"
