"""Traces the passes F, X, T and W of a network to two graphs, before and after the loss, and compiles them."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from fastgan import allocation
from fastgan._torch_private import compile_graph, graph_of
from fastgan.affine import NotAffineError, record
from fastgan.penalties.cut import Cut
from fastgan.penalties.objective import leaves_of
from fastgan.penalties.one_pass import seed_of
from fastgan.penalties.outputs import seed
from fastgan.penalties.programs import COMPILING, CompilerError, NotNowError, check_modes, in_short
from fastgan.penalties.returned import Returned

aten = torch.ops.aten


class Graphs:
    """The two compiled graphs of one network at one set of shapes.

    Attributes:
        returned: which of the network's outputs are the critic's; others are attributes that its code sets.
        tracked: which of the outputs autograd would know, and views: which lie in the memory of an input.
        wants: which of the inputs want a gradient.
        gives, gives_without_loss: which of these get one where the points are in the loss, and where they are not;
            see `gives_with`.
        written: the inputs that the network changes in place.
        several: whether there are several numbers per sample, and the loss's gradient is apart from the penalties'.
    """

    def __init__(
        self,
        network: fx.GraphModule,
        returned: Returned,
        inputs: Sequence[Any],
        x: Tensor,
        reduce: str,
        backend: str,
        warn: Callable[[str], None],
    ) -> None:
        place = next((i for i, t in enumerate(inputs) if t is x), None)
        if place is None or not returned.indices:
            raise NotAffineError("the output does not depend on the input")
        self.place, self.returned = place, returned
        if any(p.requires_grad for p in network.parameters()):
            raise CompilerError("the compiler takes parameters for constants")
        self.wants = [isinstance(t, Tensor) and t.requires_grad and t is not x for t in inputs]
        self.seed = 1.0
        self.tracked: list[bool] = []
        self.multiplied: list[bool] = []
        self.reached: list[list[bool]] = []
        """For each part of the output, which of the inputs that want a gradient it depends on."""
        self.several = len(returned.shapes) > 1 or math.prod(returned.shapes[0]) > len(x)
        whole = self._trace(network, inputs, reduce)
        cut = Cut(whole, len(inputs), [sum(self.wants)] * (1 + self.several))
        self.views, self.written = cut.views, cut.written
        self.gives_each = cut.gives
        self.gives = [any(each) for each in zip(*cut.gives, strict=True)]
        self.gives_without_loss = [a and b for a, b in zip(cut.gives[0], self.multiplied, strict=True)]
        self._early, *self._late = (_Part(g, x.device.type, backend, warn) for g in (cut.early, *cut.late))

    def gives_with(self, used: Sequence[bool]) -> list[bool]:
        """Which inputs get a gradient where the loss depends on these parts of the output."""
        if not self.several:
            return self.gives
        of_parts = [reached for reached, is_used in zip(self.reached, used, strict=True) if is_used]
        in_loss = [given and any(each) for given, *each in zip(self.gives_each[1], *of_parts, strict=True)]
        return [a or b for a, b in zip(self.gives_without_loss, in_loss, strict=True)]

    def early(self, inputs: Sequence[Any]) -> tuple[list[Any], Tensor, list[Tensor]]:
        """F and X: the outputs, the gradient with respect to x, and what is kept for `late`."""
        found = list(self._early(*inputs))
        n = len(self.tracked)
        return found[:n], found[n], found[n + 1 :]

    def late(self, kept: Sequence[Tensor], u: Tensor, s: Tensor) -> list[Tensor | None]:
        """T and W: the gradient of each input that wants one; of several outputs, of the penalties alone."""
        given = [s] if not self.several else [s.new_zeros(shape) for shape in self.returned.shapes]
        found = iter(self._late[0](*kept, u, *given))
        return [next(found) if given else None for given in self.gives_each[0]]

    def of_loss(self, kept: Sequence[Tensor], u: Tensor, slopes: Sequence[Tensor]) -> list[Tensor | None]:
        """X and W of the loss of several outputs: the gradient of each input that wants one."""
        found = iter(self._late[1](*kept, u, *slopes))
        return [next(found) if given else None for given in self.gives_each[1]]

    def _trace(self, network: fx.GraphModule, inputs: Sequence[Any], reduce: str) -> fx.GraphModule:
        """(inputs, u, s) -> the network's outputs, g, and the gradient of each input that wants one, as one graph.

        Of several numbers per sample s are the loss's gradients with respect to the parts, and the results are the
        gradients of the penalties, then those of the loss, by autograd.
        """

        def step(inputs: list[Any], u: Tensor, *s: Tensor) -> Any:
            leaves = [t.detach().requires_grad_() if want else t for t, want in zip(inputs, self.wants, strict=True)]
            outputs: Sequence[Any] = ()

            def run(x: Tensor) -> list[Tensor]:
                nonlocal outputs
                outputs = network.forward(*(x if i == self.place else t for i, t in enumerate(leaves)))
                self.tracked = [isinstance(o, Tensor) and o.requires_grad for o in outputs]
                return [outputs[i] for i in self.returned.indices]

            ys, tape = record(run, leaves[self.place], plain=True, keep_graph=self.several)
            self.seed = seed_of(tape)
            seeds = [
                seed(y.detach(), times * self.seed, len(x), reduce)
                for y, times in zip(ys, self.returned.times_judged, strict=True)
            ]
            of_all = None if self.several else s[0]
            g, found = tape.gradient(seeds, of_all)
            for slot, gradient in tape.weight_gradients(u, of_all).items():
                found[slot] = found[slot] + gradient if slot in found else gradient
            wanted = [t for t, want in zip(leaves, self.wants, strict=True) if want]
            factors = {id(leaf) for slot in tape.multiplied() for leaf in leaves_of(slot.tensor)}
            self.multiplied = [id(t) in factors for t in wanted]
            gradients = torch.autograd.grad(
                [slot.tensor for slot in found],
                wanted,
                list(found.values()),
                allow_unused=True,
                retain_graph=self.several,
            )
            if self.several:
                below = [{id(leaf) for leaf in leaves_of(y)} for y in ys]
                self.reached = [[id(t) in leaves for t in wanted] for leaves in below]
                pairs = [(y, slope.to(y.dtype)) for y, slope in zip(ys, s, strict=True) if y.requires_grad]
                gradients += torch.autograd.grad(
                    [y for y, _ in pairs], wanted, [slope for _, slope in pairs], allow_unused=True
                )
            detached = [o.detach() if isinstance(o, Tensor) else o for o in outputs]
            return detached, g, list(gradients)

        x = inputs[self.place].detach()
        given = [x if i == self.place else t for i, t in enumerate(inputs)]
        shapes = self.returned.shapes if self.several else [(len(x),)]
        s = [x.new_zeros(shape, dtype=torch.promote_types(x.dtype, torch.float32)) for shape in shapes]
        if x.device.type == "cpu":
            allocation.keep_freed_memory()  # in earnest, before the tape does it while it is traced
        with torch.enable_grad():
            return graph_of(step)(given, torch.empty_like(x), *s)


class _Part:
    """A graph that the backend compiles at its first call; it runs as it is where that fails."""

    def __init__(self, graph: fx.GraphModule, device: str, backend: str, warn: Callable[[str], None]) -> None:
        self.graph, self.device, self.backend, self.warn = graph, device, backend, warn
        self._run: Callable[..., Any] | None = None

    def __call__(self, *args: Tensor) -> Sequence[Any]:
        """Without autograd, and without autocast, whose casts are in the graph."""
        with torch.no_grad(), torch.autocast(self.device, enabled=False):
            if self._run is None:
                try:
                    check_modes()
                except NotNowError:
                    return self.graph.forward(*args)
                with COMPILING:
                    self._run = self._compiled(args)
            return self._run(*args)

    def _compiled(self, args: Sequence[Tensor]) -> Callable[..., Any]:
        try:
            own = fx.GraphModule(self.graph, copy.deepcopy(self.graph.graph))  # which backends rewrite
            return compile_graph(self.backend, own, list(args))
        except Exception as error:
            self.warn(in_short(error))
            return self.graph.forward
