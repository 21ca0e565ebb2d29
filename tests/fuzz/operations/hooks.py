"""Hooks of every kind, on activations, on autograd's nodes and on modules.

On an activation, double backward may call one with None where PyTorch's would hand it zeros, as documented: these
expect it.
"""

from typing import Any

from tests.fuzz.operations.registry import Live, Out, operation

_GRADIENTS = "lambda given, *_: tuple(None if v is None else {n} * v for v in given)"


def _fresh(g: Any, h: Live) -> str:
    return g.pick(
        f"{h} * 1.5", f"F.leaky_relu({h}, 0.2)", f"{h} + 0.1", f"{h}.abs()", f"{h} * {g.parameter(1, near_one=True)}"
    )


@operation("any", weight=0.4)
def hook_on_an_activation(g: Any, h: Live) -> Out:
    t = g.name()
    n = g.pick(0.5, 2)
    hook = f"{t}.register_hook(lambda v: None if v is None else {n} * v)"
    return Out(t, (f"{t} = {_fresh(g, h)}", f"if {t}.requires_grad:", f"    {hook}"))


@operation("any", weight=0.6)
def hook_on_a_node(g: Any, h: Live) -> Out:
    """grad_fn.register_hook and register_prehook."""
    t = g.name()
    kind = g.pick("register_hook", "register_prehook")
    hook = _GRADIENTS.format(n=g.pick(0.5, 2))
    return Out(t, (f"{t} = {_fresh(g, h)}", f"if {t}.grad_fn is not None:", f"    {t}.grad_fn.{kind}({hook})"))


@operation("any", weight=0.4)
def hook_on_a_weight_that_is_made(g: Any, h: Live) -> Out:
    """The weight is computed in forward; whoever differentiates it must call the hook once, with the whole gradient."""
    t = g.name()
    p = g.parameter(1, near_one=True)
    hook = g.pick("lambda v: None if v is None else 0.5 * v", "lambda v: None if v is None else v.clamp(-0.01, 0.01)")
    return Out(
        g.pick(f"{h} * {t}", f"{h} + {t}"),
        (f"{t} = {p} * 2", f"if {t}.requires_grad:", f"    {t}.register_hook({hook})"),
    )


_FORWARD = (
    "register_forward_hook(lambda m, given, out: 1.5 * out)",
    "register_forward_hook(lambda m, given, out: out + 0.1)",
    "register_forward_hook(lambda m, given, out: None)",
    "register_forward_pre_hook(lambda m, given: (1.5 * given[0],))",
    "register_forward_pre_hook(lambda m, given: (given[0] - 0.1,))",
)
_BACKWARD = (
    f"register_full_backward_hook(lambda m, *given: ({_GRADIENTS.format(n=0.5)})(given[0]))",
    f"register_full_backward_pre_hook(lambda m, given: ({_GRADIENTS.format(n=0.5)})(given))",
    f"register_backward_hook(lambda m, *given: ({_GRADIENTS.format(n=0.5)})(given[0]))",
    "register_full_backward_hook(lambda m, *given: None)",
    "register_backward_hook(lambda m, *given: None)",
)
MODULE_HOOKS = _FORWARD + _BACKWARD


@operation(weight=0.8)
def hook_on_a_module(g: Any, h: Live) -> str:
    m = g.module(f"nn.Linear({h.shape[-1]}, {g.whole(1, 4)})") if g.chance(0.7) else g.module("nn.LeakyReLU(0.2)")
    g.declare(f"{m}.{g.pick(*(_FORWARD if g.chance(0.5) else _BACKWARD))}")
    return f"{m}({h})"
