"""`AccelerationReport`: a row for each layer of a model, its replacement or the reason why it was left."""

from dataclasses import dataclass, field

from torch import nn


@dataclass(frozen=True)
class LayerReport:
    """The row of one layer.

    Attributes:
        path: its name in the model as in `named_modules`; "" is the model itself. Two joined by " + " are a pair.
        kind: the name of the class it had.
        became: what computes it now; None if it was left as it was.
        reason: why it was left, or under which condition the other holds.
    """

    path: str
    kind: str
    became: str | None
    reason: str = ""


@dataclass
class AccelerationReport:
    """The rows, and the times of a step if they were measured.

    Attributes:
        rows: one for each layer that was looked at, in the order of the model; a module used several times has one.
        before_ms, after_ms: median time of a forward and backward pass before and after; None without `profile`.
    """

    rows: list[LayerReport] = field(default_factory=list)
    before_ms: float | None = None
    after_ms: float | None = None
    _seen: set[nn.Module] = field(default_factory=set, repr=False, compare=False)

    def add(self, path: str, module: nn.Module, kind: str, became: str | None, reason: str = "") -> None:
        """Adds the row of a module."""
        self._seen.add(module)
        self.rows.append(LayerReport(path, kind, became, reason))

    def knows(self, module: nn.Module) -> bool:
        """Whether there is a row of the module itself (a pair is not its two modules)."""
        return module in self._seen

    def finish(self, paths: list[str]) -> None:
        """Sorts the rows by the order of these module names, and drops the references to modules."""
        self._seen.clear()
        position = {path: i for i, path in enumerate(paths)}
        self.rows.sort(key=lambda row: position[row.path.split(" + ")[0]])

    @property
    def replaced(self) -> list[LayerReport]:
        return [row for row in self.rows if row.became is not None]

    @property
    def left(self) -> list[LayerReport]:
        return [row for row in self.rows if row.became is None]

    def __str__(self) -> str:
        groups: dict[tuple[str, str, str], list[str]] = {}
        for row in self.rows:
            groups.setdefault((row.kind, row.became or "left", row.reason), []).append(row.path or "(the model)")
        lines = [("layers", "class", "became", "reason")]
        lines += [(_names(paths), *group) for group, paths in groups.items()]
        widths = [max(len(line[i]) for line in lines) for i in range(3)]
        table = ["  ".join([*map(str.ljust, line, widths), line[3]]).rstrip() for line in lines]
        text = [f"accelerate: {len(self.replaced)} replaced, {len(self.left)} left", *(table if self.rows else ())]
        if self.before_ms is not None and self.after_ms is not None:
            ratio = self.before_ms / self.after_ms
            text.append(
                f"forward + backward: {self.before_ms:.3g} ms before, {self.after_ms:.3g} ms after ({ratio:.2f}x)"
            )
        return "\n".join(text)


def _names(paths: list[str]) -> str:
    """The first names, and the number of the rest."""
    shown = ", ".join(paths[:3])
    return shown if len(paths) <= 3 else f"{shown} and {len(paths) - 3} more"
