"""The page of all objectives, made of the first lines of their docstrings.

python -m fastgan.losses.page > docs/objectives.md
"""

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

from fastgan.losses import (
    DIVERGENCES,
    LOSSES,
    adaptive_weight,
    auxiliary_classifier,
    feature_matching,
    feature_matching_with,
    label_smoothing,
    learned_moments,
    pulling_away,
    semi_supervised,
    supervised,
    witness_function,
)

PAPER = re.compile(r"[^\s.;(][^.;(]*(?:et al\. |& \w+ )?\d{4}, arXiv:\d{4}\.\d{4,5}")
REMARK = re.compile(r", (?=[a-z]{3,} )")

HEAD = """\
# Objectives

Each is a `Loss`: two functions of the critic's outputs, of which the critic and the generator minimise one each.

```python
loss = fastgan.losses.hinge
loss.critic(critic(real), critic(fake)).backward()
loss.generator(critic(generator(z)), None).backward()
```

`fastgan.losses.<name>` or `fastgan.losses.parse("<name>")` gives it, `fastgan train RECIPE task.loss=<name>` trains
with it. D is the critic's output on one sample: a *logit* of any sign, *features*, or an *error* of reconstruction. p
is the data, q are the samples, s the sigmoid. Where the generator's column names x, it needs the critic's output on
data as well (`loss.needs_real`).

"""

DIVERGENCE_HEAD = """
## f-divergences

Games over D_f(p, q) = E_q f(p / q), all of them of logits, with T = g(D) the divergence's output activation
(Nowozin et al. 2016, arXiv:1606.00709): `fastgan.losses.fgan("kl")`, `fgan:kl`.

"""

PARAMETERS = """
## Parameters

| name | parameter | in Python |
| --- | --- | --- |
| `ebgan:0.5` | the margin m, by default 1 | `ebgan(0.5)` |
| `began:0.7`, `began:0.7:0.01` | gamma, and lambda_k; k follows by `loss.update(real_errors, fake_errors)` \
| `began(0.7, lambda_k=0.01)` |
| `fgan:alpha:0.5` | alpha, any number but 0 and 1 | `fgan(divergences.alpha(0.5))` |
| `fgan:weighted_jensen_shannon:0.3` | pi | `fgan(divergences.weighted_jensen_shannon(0.3))` |
| `fgan:kl:saturating`, `fgan:alpha:0.5:saturating` | the generator's loss is `-E_q f*(T)`, its part of the bound \
| `fgan("kl", saturating=True)` |
| `maximum_likelihood:plain` | without the division by the batch's `E_q exp(D(G(z)))` | `plain_maximum_likelihood` |
| `mmd:gaussian` | the kernel | `mmd_with("gaussian")` |
| `label_smoothing:0.9:nonsaturating` | the target of data; for classifiers | `label_smoothing(nonsaturating, 0.9)` |
| `feature_matching:hinge` | the critic's game, any of logits | `feature_matching_with(hinge)` |

`loss.name` says every parameter that is not the default, and `parse(loss.name)` is the same objective (but for
`semi_supervised`, which needs labels besides).

The critics of `ebgan` and `began` are autoencoders in `fastgan.nn.ReconstructionError(autoencoder, power)`, the power 2
for `ebgan` and 1 for `began`; those of `sliced_wasserstein` and `feature_matching` return a logit and then their
features in one vector, as `fastgan.nn.LogitAndFeatures(critic, layer)` does. `mmd` needs two samples or more of each.

The gradient of the generator's loss of `maximum_likelihood` is divided by the mean of exp(D) over the batch: the slope
by the logit D_i of a sample is -exp(D_i) / sum_j exp(D_j), so that those of a batch add up to -1 and one sample alone
has -1 everywhere, where the figure of the NIPS tutorial draws -1/2 exp(D). `maximum_likelihood:plain` has the slope
-exp(D) of one sample, twice that of the figure, as the critic's loss here is twice the tutorial's.

Gradient penalties are of the gradient of D; where the critic gives several numbers, of the one that `loss.witness`
makes of them: with `feature_matching` and `sliced_wasserstein` the logit, with `semi_supervised` log Z, with `mmd` the
witness function of its features.

Losses are computed and returned in float32 (float64 for float64), whatever type the critic's outputs have, under
`torch.autocast` too. They and their gradients are finite as long as the sums over the batch are: with 64 samples, for
outputs up to about 1e36 where they count linearly in the end, 1e23 in the games over exponentials
(`maximum_likelihood:plain`, `fgan:kl`, `reverse_kl`, `neyman`, `squared_hellinger`, `jeffrey`, `alpha`), 1e18 where
they are squared (`least_squares`, `fgan:pearson`, `mmd`, `feature_matching`), 1e16 with `sliced_wasserstein`, whose sum
is over 512 directions as well.
The gradient comes back in the type of the outputs: in float16 that of an exponential, which reaches e^30 divided by the
batch, is infinite above 65504.
"""

MODIFIER_HEAD = """
## What is added to an objective

"""

TAIL = """
**Class-conditional** training needs no objective of its own: both players see the label. `fastgan.critic_loss(critic,
real, fake, labels=real_labels, fake_labels=labels_of_samples)` calls `critic(x, labels)`; the generator is called with
the labels it is to draw. How a critic uses its label, by a projection (`fastgan.models.ProjectionCritic`) or as further
channels, is up to the network. `task.conditional=projection` does that, `task.conditional=auxiliary-classifier`
and `task.conditional=semi-supervised` add the terms above to any objective of logits.

`fastgan train RECIPE task.loss=ebgan task.pulling_away=0.1` adds 0.1 `pulling_away(features)` to the generator's
loss, of what the critic's encoder makes of its samples.

*Written by `python -m fastgan.losses.page > docs/objectives.md`.*
"""


def summary(described: Any) -> str:
    """The first sentence or formula of a docstring, as one line."""
    paragraph = (inspect.getdoc(described) or "").split("\n\n")[0]
    return " ".join(paragraph.split()).removesuffix(".")


def papers(*described: Any) -> str:
    """The papers that docstrings end with, each once."""
    texts = [" ".join((inspect.getdoc(one) or "").split("\n\n")[-1].split()) for one in described]
    return "; ".join(dict.fromkeys(paper for text in texts for paper in PAPER.findall(text)))


def formula(described: Any) -> str:
    """A docstring's first line within a table: its formula as code, what follows in words."""
    code, *words = REMARK.split(summary(described).replace("|", r"\|"), maxsplit=1)
    return ", ".join([f"`{code}`", *words])


def table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    titles = list(titles)
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def objective_rows() -> Iterable[tuple[str, ...]]:
    """A row for each of `LOSSES` except the f-divergence games."""
    for name, loss in LOSSES.items():
        if not name.startswith("fgan:"):
            yield f"`{name}`", loss.output, formula(loss.critic), formula(loss.generator), loss.paper


def divergence_rows() -> Iterable[tuple[str, ...]]:
    """A row for each game over an f-divergence."""
    for name, make in DIVERGENCES.items():
        yield f"`fgan:{name}`", summary(make).replace("|", r"\|")


def modifier_rows() -> Iterable[tuple[str, ...]]:
    """A row for each function that changes an objective or stands beside it."""
    described: dict[str, Callable[..., Any]] = {
        "label_smoothing(loss, real)": label_smoothing,
        "feature_matching_with(loss)": feature_matching_with,
        "feature_matching(real, fake)": feature_matching,
        "witness_function(points, x, y)": witness_function,
        "semi_supervised(loss)": semi_supervised,
        "supervised(class_logits, labels)": supervised,
        "auxiliary_classifier.critic": auxiliary_classifier.critic,
        "auxiliary_classifier.generator": auxiliary_classifier.generator,
        "pulling_away(features)": pulling_away,
        "adaptive_weight(reconstruction, adversarial, weight)": adaptive_weight,
        "learned_moments.critic": learned_moments.critic,
        "learned_moments.generator": learned_moments.generator,
    }
    for name, function in described.items():
        yield f"`{name}`", summary(function).replace("|", r"\|"), papers(function)
    noise = (
        "Gaussian noise on both inputs of the critic, annealed: `task.instance_noise={from: 0.3, to: 0, over: 3000}`"
    )
    yield "`fastgan.nn.InstanceNoise(std, steps)`", noise, "Sønderby et al. 2017, arXiv:1610.04490"


def page() -> str:
    """The whole page, as it is committed."""
    games = LOSSES["fgan:kl"]
    return "".join(
        (
            HEAD,
            table(("name", "D is", "critic", "generator", "paper"), objective_rows()),
            DIVERGENCE_HEAD,
            f"The critic minimises {formula(games.critic)}, the generator {formula(games.generator)}\n\n",
            table(("name", "f(u)"), divergence_rows()),
            PARAMETERS,
            MODIFIER_HEAD,
            table(("`fastgan.losses.`", "what it is", "paper"), modifier_rows()),
            TAIL,
        )
    )


if __name__ == "__main__":
    print(page(), end="")
