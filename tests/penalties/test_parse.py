"""Penalties as the command line writes them."""

import re

import pytest

from fastgan.penalties import DRAGAN, R1, R2, WGANGP, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("none", ()),
        ("r1", (R1(10.0),)),
        (" r1:0.5 , r2:3 ", (R1(0.5), R2(3.0))),
        ("wgan-gp", (WGANGP(10.0),)),
        ("wgan-gp:5:one-sided", (WGANGP(5.0, one_sided=True),)),
        ("wgan-gp:one-sided,r1:1", (WGANGP(one_sided=True), R1(1.0))),
        ("wgan-gp:5:0.5", (WGANGP(5.0, 0.5),)),
        ("wgan-gp:5:0:one-sided", (WGANGP(5.0, 0.0, True),)),
        ("dragan:2", (DRAGAN(2.0),)),
        ("dragan:one-sided", (DRAGAN(one_sided=True),)),
        ("dragan:2:0.9:0.1:one-sided", (DRAGAN(2.0, 0.9, 0.1, True),)),
    ],
)
def test_what_is_read(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("r3", "'r3' is not a penalty, expected one of r1, r2, wgan-gp, dragan, as in r1:10,r2:10"),
        ("none:1", "'none:1' is not a penalty, expected one of r1, r2"),
        ("r1:", "'r1:' has the weight '', expected a number >= 0"),
        ("r2:nan", "'r2:nan' has the weight 'nan', expected a number >= 0"),
        ("wgan-gp:-1:one-sided", "'wgan-gp:-1:one-sided' has the weight '-1', expected a number >= 0"),
        ("wgan-gp:1:inf", "'wgan-gp:1:inf' has the target 'inf', expected a number >= 0"),
        ("wgan-gp:one-sided:10", "'wgan-gp:one-sided:10' has the weight 'one-sided', expected a number >= 0"),
        ("dragan:1:1:x", "'dragan:1:1:x' has the deviation 'x', expected a number >= 0"),
        ("r1:one-sided", "'r1:one-sided' has the weight 'one-sided', expected a number >= 0"),
        ("r1:1:2", "'r1:1:2', expected weight at most after r1"),
        ("wgan-gp:1:2:3", "'wgan-gp:1:2:3', expected weight, target at most after wgan-gp"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(text)
