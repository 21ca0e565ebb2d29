"""What a critic may return besides one number per sample: maps, lists, tuples and dicts.

Each has what is judged of it written down twice: as `critic_loss` is told, and by hand, for the textbook.
"""

from typing import NamedTuple


class Structure(NamedTuple):
    """Source text; y is the sum of the heads, [samples, 1], h are features, [samples, ...], m is a map of them.

    Attributes:
        returns: the output.
        judge: the argument of critic_loss; "" for none.
        judged: the same tensors of an output `o`.
        extra: what a loss of outputs `r` and `f` may add that is of no judged tensor; "" for nothing.
        reduce: the argument of critic_loss.
    """

    returns: str
    judge: str
    judged: str
    extra: str = ""
    reduce: str = "sum"

    def options(self) -> str:
        """Further arguments of critic_loss, and `judged` for the textbook."""
        judge = f", judge={self.judge}" if self.judge else ""
        reduce = f", reduce={self.reduce!r}" if self.reduce != "sum" else ""
        return f"{judge}{reduce}, judged=judged"


STRUCTURES: dict[str, Structure] = {
    "a map": Structure("{m} + ({y})[:, :, None]", "", "[o]"),
    "a map, its mean": Structure("{m} + ({y})[:, :, None]", "", "[o]", reduce="mean"),
    "scales": Structure("[{y}, {m} * 0.5]", "", "[o[0], o[1]]"),
    "scales, their means": Structure("({m}, {y})", "", "[o[0], o[1]]", reduce="mean"),
    "a logit and features": Structure(
        "(({y}).squeeze(1), {h})", "0", "[o[0]]", "0.1 * (r[1].mean() - f[1].square().mean())"
    ),
    "a dict": Structure(
        "{{'features': {h}, 'logit': {y}, 'map': {m}}}", "'map'", "[o['map']]", "0.3 * r['logit'].square().mean()"
    ),
    "a logit of a dict": Structure(
        "{{'features': {h}, 'logit': {y}, 'note': 'text', 'size': len(x)}}", "'logit'", "[o['logit']]",
        "0.3 * f['features'].abs().mean() / f['size']",
    ),
    "several of a dict": Structure(
        "{{'map': {m}, 'logit': {y}, 'more': {h}}}", "lambda o: [o['map'], o['logit']]", "[o['map'], o['logit']]",
        "0.2 * (r['more'] * f['logit'].mean()).mean()",
    ),
    "what is computed": Structure(
        "({y}, {h})", "lambda o: 0.5 * o[0] + o[1].flatten(1).sum(1, True)",
        "[0.5 * o[0] + o[1].flatten(1).sum(1, True)]", "0.1 * r[1].mean()",
    ),
    "lists in a tuple": Structure(
        "([{y}, {m}], [[{h}], [{h} * 2]])", "0", "[o[0][0], o[0][1]]",
        "(r[1][0][0].mean() - f[1][1][0].mean()).square()",
    ),
    "lists in a list": Structure("[[{y}], ({m}, [({y}) * 0.5])]", "", "[o[0][0], o[1][0], o[1][1][0]]"),
    "the same twice": Structure("[(s := {y}), s]", "", "[o[0], o[1]]"),
}  # fmt: skip
