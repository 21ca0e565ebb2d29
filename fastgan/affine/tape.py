"""The tape: the operations of one forward pass of a piecewise affine network, with their masks frozen.

    F  records the tape: `recorder.record`
    X  `Tape.gradient`: the gradient with respect to the input, by each node's `pull` from the last to the first
    T  the network with its masks frozen, applied to another input u, every additive constant scaled per sample
    W  the gradients of the weights, from T's inputs and X's cotangents: `Tape.weight_gradients`

Derivation: docs/gradient-penalties.md.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastgan.affine.batch import BatchDim
from fastgan.affine.errors import NotAffineError
from fastgan.affine.memory import Memory
from fastgan.affine.versions import version_of
from fastgan.ops._common.autocast import autocasts


class Value:
    """The shape, dtype, device and batch dimension of a tensor that depends on the input; the tensor may be freed."""

    __slots__ = ("batch", "device", "dtype", "hidden", "own", "place", "reason", "shape")

    def __init__(self, tensor: Tensor, batch: BatchDim) -> None:
        self.shape, self.dtype, self.device = tuple(tensor.shape), tensor.dtype, tensor.device
        self.batch = batch
        self.hidden = False
        """Made while autograd was off: inside `torch.no_grad()` or a custom autograd.Function."""
        self.own = False
        """Made by one of fastgan's operations, whose autograd.Function is known."""
        self.place = ""
        """The module that made it, for messages."""
        self.reason: str | None = None
        """Why the operation that made it is not affine; matters only if autograd goes through it."""

    def placeholder(self) -> Tensor:
        """A tensor of this shape and dtype without memory, for operators that look at a shape only."""
        return torch.zeros((), dtype=self.dtype, device=self.device).expand(self.shape)


class Scales:
    """The factor s of the additive constants, one number per sample; None stands for zero."""

    def __init__(self, s: Tensor | None) -> None:
        self.s = s  # [samples], float32 or float64

    def along(self, value: Value) -> Tensor | None:
        """s shaped to broadcast against `value`."""
        if self.s is None:
            return None
        s = self.s if value.batch.folded == 1 else self.s.repeat_interleave(value.batch.folded)
        return s.to(value.dtype).view([-1 if d == value.batch.dim else 1 for d in range(len(value.shape))])


class Node(ABC):
    """One operation: linear in its inputs given the frozen masks and the weights, plus additive constants."""

    def __init__(
        self, inputs: Sequence[Value], slots: Sequence["Slot | None"] = (), constants: Sequence["Slot | None"] = ()
    ) -> None:
        self.inputs = tuple(inputs)
        self.output: Value
        self.slots = tuple(slots)
        """The weights that multiply an input; None for one that wants no gradient."""
        self.constants = tuple(constants)
        """The same for those that are added (biases)."""
        self.cotangent: Tensor | None = None
        """The gradient with respect to the output, which X keeps where W needs it."""
        self.watched: list[tuple[Tensor, int]] = []
        """Constants that the passes read again and nobody may change, with their versions."""

    @abstractmethod
    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        """The gradients with respect to the inputs, for the gradient with respect to the output."""

    @abstractmethod
    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        """The output for other inputs, with additive constants scaled by s."""

    pulls_new = pushes_new = False
    """Whether all that `pull` or `push` returns is in memory that it has just allocated, which nobody else holds."""

    def pull_over(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        """`pull` that may overwrite `delta`, which nobody else reads."""
        return self.pull(delta, scales)

    def push_over(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        """`push` that may overwrite its one input, which nobody else reads."""
        return self.push(us, scales)

    def weight_gradients(self, us: Sequence[Tensor], delta: Tensor, scales: Scales) -> Sequence[Tensor | None]:
        """For each slot the gradient of <delta, push(us)>."""
        raise NotImplementedError

    def constant_gradients(self, delta: Tensor, scales: Scales) -> Sequence[Tensor | None]:
        """For each constant the sum over the samples of s_i delta_i. Called after `pull`, and only if s is not zero."""
        raise NotImplementedError

    does_nothing = False
    """Whether its output is its input, now that another operation adds its bias."""

    takes_bias = False
    """Whether this operation can add a number to each channel (dimension 1) of its input."""

    def take_bias(self, bias: "Bias") -> None:
        """Makes this operation add the bias."""
        raise NotImplementedError

    def movable_bias(self) -> "Bias | None":
        """The bias that this operation adds, if another could add it in its place; None otherwise."""
        return None

    def leave_bias(self) -> None:
        """Makes this operation add no bias: another one does."""
        raise NotImplementedError


class Bias(NamedTuple):
    """An additive constant that moves from one operation to the next."""

    tensor: Tensor
    slot: "Slot | None"

    def fits(self, value: Value) -> bool:
        """Whether it is one number, of the right dtype, for each channel of a tensor whose samples come first."""
        channels = value.shape[1:2]
        return value.batch.dim == 0 and tuple(self.tensor.shape) == channels and self.tensor.dtype == value.dtype


class Slot:
    """A weight that requires a gradient: a parameter, a normalised weight, the embedding of a label."""

    __slots__ = ("tensor", "transposed", "version")

    def __init__(self, tensor: Tensor, transposed: bool = False) -> None:
        self.tensor = tensor
        self.transposed = transposed
        """Whether what is used is the transpose of the tensor."""
        self.version = version_of(tensor)


def _in_their_own_precision(passes: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator that turns autocast off: the casts of the forward pass are on the tape."""

    @functools.wraps(passes)
    def run(tape: "Tape", *args: Any, **kwargs: Any) -> Any:
        device = tape.input.device.type
        if not autocasts(device):
            return passes(tape, *args, **kwargs)
        with torch.autocast(device, enabled=False):
            return passes(tape, *args, **kwargs)

    return run


class Tape:
    """The operations between an input and outputs, in order."""

    def __init__(self, samples: int, in_place: bool = True) -> None:
        self.samples = samples
        self.in_place = in_place
        """Whether passes may overwrite memory that nobody else reads; a compiler reuses memory by itself."""
        self.nodes: list[Node] = []
        self.slots: dict[tuple[int, bool], Slot] = {}
        self.input: Value
        self.outputs: list[Value | None]
        """None for one that does not depend on the input."""
        self.leaf: Tensor
        """The input, as autograd knows it."""

    def slot(self, weight: Tensor) -> Slot | None:
        """The slot of a weight; None if it requires no gradient."""
        if not weight.requires_grad:
            return None
        weight, transposed = _before_autocast(weight)
        return self.slots.setdefault((id(weight), transposed), Slot(weight, transposed))

    def finish(self, outputs: Sequence[Value | None]) -> None:
        """Keeps the nodes between the input and these outputs, and moves biases into activations."""
        self.outputs = list(outputs)
        self.nodes = self._leading_to(outputs)
        self._keep_slots(_slots_of(self.nodes, constants=True))
        self._move_biases()

    def keep(self, penalised: Sequence[bool], in_loss: Sequence[bool], constants: bool) -> list[Slot]:
        """Forgets the nodes, the weights and the constants that lead to neither kind of output.

        Args:
            penalised: which outputs are penalised.
            in_loss: which are in a loss, for whose own gradient the passes will run again.
            constants: whether what is only added on the way to those penalised gets a gradient too.

        Returns:
            The slots that get a gradient.
        """
        to_penalised, to_loss = (
            self._leading_to([v for v, wanted in zip(self.outputs, each, strict=True) if wanted])
            for each in (penalised, in_loss)
        )
        needed = {*to_penalised, *to_loss}
        self.nodes = [node for node in self.nodes if node in needed]
        self.outputs = [v if any(wanted) else None for v, *wanted in zip(self.outputs, penalised, in_loss, strict=True)]
        self._keep_slots(_slots_of(to_penalised, constants) | _slots_of(to_loss, constants=True))
        return list(self.slots.values())

    def _leading_to(self, outputs: Sequence[Value | None]) -> list[Node]:
        """The nodes between the input and these outputs, in order."""
        needed, found = {value for value in outputs if value is not None}, []
        for node in reversed(self.nodes):
            if node.output in needed:
                needed.update(node.inputs)
                found.append(node)
        return found[::-1]

    def _keep_slots(self, used: set[Slot]) -> None:
        self.slots = {key: slot for key, slot in self.slots.items() if slot in used}

    def _move_biases(self) -> None:
        """Lets an activation add the bias of the operation before it, in the same pass over memory."""
        uses: dict[Value, int] = dict.fromkeys((value for value in self.outputs if value is not None), 1)
        for node in self.nodes:
            for value in node.inputs:
                uses[value] = uses.get(value, 0) + 1
        makers = {node.output: node for node in self.nodes}
        for node in list(self.nodes):
            maker = makers.get(node.inputs[0])
            if maker is None or not node.takes_bias or uses[maker.output] > 1:
                continue
            bias = maker.movable_bias()
            if bias is None or not bias.fits(maker.output):
                continue
            maker.leave_bias()
            node.take_bias(bias)
            if maker.does_nothing:
                node.inputs = maker.inputs
                self.nodes = [other for other in self.nodes if other is not maker]

    def multiplied(self) -> list[Slot]:
        """The slots that are not only added, as biases are: those that a penalty alone gives a gradient."""
        used = _slots_of(self.nodes, constants=False)
        return [slot for slot in self.slots.values() if slot in used]

    def uses(self, dtype: torch.dtype) -> bool:
        """Whether any recorded tensor has this dtype."""
        return any(node.output.dtype == dtype for node in self.nodes)

    # --- the passes -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    @_in_their_own_precision
    def gradient(
        self, seeds: Sequence[Tensor | None], s: Tensor | None = None, keep: bool = True
    ) -> tuple[Tensor, dict["Slot", Tensor]]:
        """X: the gradient of the sum of <seed, output> with respect to the input.

        Args:
            seeds: for each output a tensor of its shape; None for zero, through which nothing is pulled.
            s: [samples], the factor of every additive constant; None for zero.
            keep: whether `weight_gradients` will follow, which needs cotangents.

        Returns:
            The gradient, and for every additive constant its sum over the samples of s_i delta_i (empty without s).
        """
        scales, memory = Scales(s), Memory(self.in_place, *(seed for seed in seeds if seed is not None))
        pending: dict[Value, Tensor] = {}
        for value, seed in zip(self.outputs, seeds, strict=True):
            if seed is not None and value is not None:
                pending[value] = _sum(pending[value], seed, memory) if value in pending else seed
        if not pending:
            raise NotAffineError("the output does not depend on the input")
        found: dict[Slot, Tensor] = {}
        for node in reversed(self.nodes):
            delta = pending.pop(node.output, None)
            if delta is None:
                continue
            kept = keep and any(slot is not None for slot in node.slots)
            if kept:
                node.cotangent = delta
            pull = node.pull_over if not kept and memory.may_overwrite(delta) else node.pull
            pulled = pull(delta, scales)
            for gradient in pulled:
                memory.hold(gradient, node.pulls_new)
            for value, gradient in zip(node.inputs, pulled, strict=True):
                pending[value] = _sum(pending[value], gradient, memory) if value in pending else gradient
            if s is not None and any(slot is not None for slot in node.constants):
                constants = node.constant_gradients(delta, scales)
                _accumulate(found, node.constants, constants, memory)
            if not kept:
                memory.release(delta)
            del delta, pulled
        if self.input not in pending:
            raise NotAffineError("the output does not depend on the input")
        return pending[self.input], found

    def take_cotangents(self) -> list[Tensor | None]:
        """The cotangents that X has kept, and none afterwards."""
        kept = [node.cotangent for node in self.nodes]
        self.put_cotangents([None] * len(kept))
        return kept

    def put_cotangents(self, kept: Sequence[Tensor | None]) -> None:
        """Gives back what `take_cotangents` has taken."""
        for node, cotangent in zip(self.nodes, kept, strict=True):
            node.cotangent = cotangent

    @torch.no_grad()
    @_in_their_own_precision
    def weight_gradients(self, u: Tensor, s: Tensor | None) -> dict[Slot, Tensor]:
        """T and W: the gradients of sum_i [s_i D(x_i) + <v_i, g_i>] for u = s x + v, after `gradient(ones, s)`.

        Those of additive constants came from there. They have the dtypes of the weights.

        Raises:
            RuntimeError: a weight was changed in place since it was recorded.
        """
        self.check_versions()
        scales, memory = Scales(s), Memory(self.in_place, u)
        nodes, uses = self._plan()
        known: dict[Value, Tensor] = {self.input: u}
        found: dict[Slot, Tensor] = {}
        del u
        for node in nodes:
            us = [known[value] for value in node.inputs]
            for value in node.inputs:
                uses[value] -= 1
            done = [known.pop(value) for value in dict.fromkeys(node.inputs) if not uses[value]]
            if node.cotangent is not None:
                _accumulate(found, node.slots, node.weight_gradients(us, node.cotangent, scales), memory)
            if uses.get(node.output):
                last = len(us) == len(done) == 1 and memory.may_overwrite(us[0])
                known[node.output] = (node.push_over if last else node.push)(us, scales)
                memory.hold(known[node.output], node.pushes_new)
            for tensor in done:
                memory.release(tensor)
            del us, done
        return found

    def _plan(self) -> tuple[list[Node], dict[Value, int]]:
        """The nodes that T visits (with weights, or whose output is needed), and the uses of each value."""
        nodes: list[Node] = []
        uses: dict[Value, int] = {}
        for node in reversed(self.nodes):
            if node.cotangent is not None or uses.get(node.output):
                nodes.append(node)
                for value in node.inputs:
                    uses[value] = uses.get(value, 0) + 1
        return nodes[::-1], uses

    def check_versions(self) -> None:
        """Raises RuntimeError if a weight or a constant was changed in place since it was recorded."""
        for slot in self.slots.values():
            if version_of(slot.tensor) != slot.version:
                raise RuntimeError(
                    f"a weight of shape {list(slot.tensor.shape)} was modified in place between critic_loss and "
                    "backward; call backward before the optimiser's step"
                )
        for constant in self.changed_constants():
            raise RuntimeError(
                f"a constant of shape {list(constant.shape)} that the critic read was modified in place between "
                "critic_loss and backward"
            )

    def changed_constants(self) -> list[Tensor]:
        """The constants that were changed in place since they were recorded."""
        watched = [each for node in self.nodes for each in node.watched]
        return [constant for constant, version in watched if version_of(constant) != version]


def _slots_of(nodes: Sequence[Node], constants: bool) -> set[Slot]:
    """The slots of the weights that multiply an input; with `constants` also of those that are added."""
    used = {slot for node in nodes for slot in ((*node.slots, *node.constants) if constants else node.slots)}
    return {slot for slot in used if slot is not None}


def _sum(known: Tensor, gradient: Tensor, memory: Memory) -> Tensor:
    """The sum of two gradients, in the memory of the first where nobody else reads it."""
    if known.dtype == gradient.dtype and memory.may_overwrite(known):
        known += gradient
        memory.release(gradient)
        return known
    total = known + gradient
    memory.hold(total, new=True)
    memory.release(known)
    memory.release(gradient)
    return total


def _accumulate(
    found: dict[Slot, Tensor], slots: Sequence[Slot | None], gradients: Sequence[Tensor | None], memory: Memory
) -> None:
    for slot, gradient in zip(slots, gradients, strict=True):
        if slot is not None and gradient is not None:
            memory.hold(gradient)  # for good: it may lie in the memory of what it was computed from
            gradient = gradient.t() if slot.transposed else gradient
            gradient = gradient.to(slot.tensor.dtype).reshape(slot.tensor.shape)
            found[slot] = found[slot] + gradient if slot in found else gradient


def _before_autocast(weight: Tensor) -> tuple[Tensor, bool]:
    """The float32 parameter of which autocast (or the critic) made this half-precision copy, or the weight itself.

    A gradient in half precision would overflow when it is multiplied by a loss scale. Where somebody is to see the
    gradient of the copy (a hook, retain_grad), it goes through the copy.

    Returns:
        The tensor, and whether the weight is the transpose of it (a linear layer's).
    """
    fn = weight.grad_fn
    if fn is None or weight.dtype not in (torch.float16, torch.bfloat16):
        return weight, False
    transposed = fn.name() == "TBackward0"
    copy = weight if weight._base is None else weight._base
    if any(t._backward_hooks or t.retains_grad for t in (weight, copy)):
        return weight, False
    if transposed:
        fn = fn.next_functions[0][0]
    if fn is not None and fn.name() == "ToCopyBackward0":
        leaf = getattr(fn.next_functions[0][0], "variable", None)
        if leaf is not None:
            return leaf, transposed
    return weight, False
