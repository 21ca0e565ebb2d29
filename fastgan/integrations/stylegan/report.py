"""`InstallReport`: what `install` did to a code base, a row for each name."""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class InstallRow:
    """One name of the code base.

    Attributes:
        name: the module and what is in it, such as `op.upfirdn2d.upfirdn2d`; the module alone while it waits.
        state: replaced, waiting (for the module's import), left, restored or kept (by `uninstall`).
        detail: what it became, or why not.
        places: the other names that were bound to the same object, such as `model.upfirdn2d`.
    """

    name: str
    state: str
    detail: str = ""
    places: tuple[str, ...] = ()


@dataclass
class InstallReport:
    """The rows, in the order in which the modules were seen. That of `install` grows while modules are imported.

    Attributes:
        title: the function that wrote it.
        rows: by name.
    """

    title: str
    rows: dict[str, InstallRow] = field(default_factory=dict)

    def add(self, row: InstallRow) -> None:
        """Sets the row of a name."""
        self.rows[row.name] = row

    def names(self, state: str) -> list[str]:
        """The names in a state."""
        return [row.name for row in self.rows.values() if row.state == state]

    def __iter__(self) -> Iterator[InstallRow]:
        return iter(self.rows.values())

    def __str__(self) -> str:
        states = {row.state: len(self.names(row.state)) for row in self}
        counts = ", ".join(f"{states[state]} {state}" for state in sorted(states))
        lines = [f"{self.title}: {counts or 'nothing to do'}"]
        told = [row for row in self if row.state != "waiting"]
        width = max((len(row.name) for row in told), default=0)
        for row in told:
            also = f" (also {', '.join(row.places)})" if row.places else ""
            lines.append(f"{row.state:8}  {row.name:{width}}  {row.detail}{also}".rstrip())
        if "waiting" in states:
            lines.append(f"waiting for the import of {', '.join(self.names('waiting'))}")
        return "\n".join(lines)
