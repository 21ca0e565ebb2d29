"""Wrong arguments of the penalties' functions: each error names the argument, what came and what was expected."""

import pytest
import torch
from torch import nn

import fastgan
from fastgan.penalties import DRAGAN, R1, R2, WGANGP, gradient_penalty

CRITIC = nn.Sequential(nn.Linear(6, 4), nn.LeakyReLU(0.2), nn.Linear(4, 1))
X = torch.randn(3, 6)


def loss(**arguments):
    return lambda: fastgan.critic_loss(arguments.pop("critic", CRITIC), X, X, **arguments)


WRONG = {
    "one penalty": (loss(penalties=R1(10.0)), TypeError, r"penalties is R1\(gamma=10.0\), expected a list or tuple"),
    "no penalties": (loss(penalties=None), TypeError, r"penalties is None, expected a list or tuple.*\(\) for none"),
    "their text": (loss(penalties="r1:10"), TypeError, "penalties is 'r1:10', expected a list or tuple"),
    "a class": (loss(penalties=(R1,)), TypeError, r"penalties\[0\] is <class .*expected one of fastgan.penalties"),
    "a number": (loss(penalties=[R1(), 10.0]), TypeError, r"penalties\[1\] is 10.0, expected one of fastgan.penalties"),
    "several": (lambda: gradient_penalty(CRITIC, X, (R1(),)), TypeError, r"penalty is \(R1.*expected one of"),
    "a weight's text": (lambda: R1("10"), ValueError, "R1: gamma is '10', expected a finite number >= 0"),
    "a flag": (lambda: R2(True), ValueError, "R2: gamma is True, expected a finite number >= 0"),
    "sides": (lambda: WGANGP(1.0, 1.0, "no"), ValueError, "WGANGP: one_sided is 'no', expected True or False"),
    "other sides": (lambda: DRAGAN(one_sided=1), ValueError, "DRAGAN: one_sided is 1, expected True or False"),
    "several judged": (loss(judge=[0, 1]), TypeError, r"judge is \[0, 1\], expected an index, a key or a function"),
    "a truth value judged": (loss(judge=True), TypeError, "judge is True, expected an index, a key or a function"),
    "no critic": (loss(critic=None), TypeError, "critic_loss: critic is None, expected a module or a function"),
    "no critic of a penalty": (lambda: gradient_penalty(3, X, R1()), TypeError, "gradient_penalty: critic is 3"),
    "integers": (loss(critic=lambda x: CRITIC(x).long()), TypeError, r"critic: .*\[3, 1\], expected"),
    "nothing to explain": (lambda: fastgan.explain(CRITIC, None), TypeError, "explain: example is NoneType, expected"),
    "an array to explain": (lambda: fastgan.explain(CRITIC, X.numpy()), TypeError, "explain: example is ndarray"),
    "of another loss": (
        lambda: fastgan.generator_loss_from(2 * fastgan.critic_loss(CRITIC, X, X.clone().requires_grad_())),
        TypeError,
        "generator_loss_from: critic_loss is a Tensor of other computations, expected what fastgan.critic_loss",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_message_says_what_was_expected(case):
    call, kind, message = WRONG[case]
    with pytest.raises(kind, match=message):
        call()
