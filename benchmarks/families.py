"""Families of ops: each has a table and a chart of its own in docs/benchmarks.md."""

FAMILIES = {
    "biased activations": ("bias_act", "scaled_bias_act", "frozen_bias_act"),
    "resampling": ("upfirdn2d",),
    "convolutions": ("conv3x3", "conv_stride2", "modulated_conv2d"),
    "attention": ("attention",),
    "minibatch statistics": ("minibatch_discrimination", "minibatch_stddev"),
    "gradient penalties and spectral norms": ("interpolate", "gradient_norm_penalty", "spectral_norm"),
}


def works_by_family(works: list[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """(op, shape) pairs under the families that they belong to; ops of no family come last, under "others"."""
    found = {name: [work for work in works if work[0] in ops] for name, ops in FAMILIES.items()}
    known = {op for ops in FAMILIES.values() for op in ops}
    found["others"] = [work for work in works if work[0] not in known]
    return {name: inside for name, inside in found.items() if inside}
