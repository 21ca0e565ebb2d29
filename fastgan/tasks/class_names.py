"""Classes by the names that folders give them, which may hold commas, spaces, dashes and any letters."""

import unicodedata
from collections.abc import Iterable, Sequence

from fastgan.errors import UserError


def labels_of(texts: Iterable[str], classes: Sequence[str]) -> list[int]:
    """The labels that texts name: each is a class, or else several with commas between them.

    A class whose name has a comma in it is found first: `cat, small` is that class where there is one, and no class
    `cat`. Names are compared as they are, then without spaces around them and with letters composed alike (a Mac writes
    an accent as a letter of its own).

    Args:
        texts: as on the command line.
        classes: all names, in the order of the labels; none of an unconditional generator.

    Raises:
        UserError: there is no such class, or there are none.
    """
    found = []
    for text in texts:
        whole = _label(text, classes)
        found += [_required(part, classes) for part in text.split(",")] if whole is None else [whole]
    return found


def listed(classes: Iterable[str]) -> str:
    """Names on one line, in quotes where it would otherwise not be clear where one ends."""
    return ", ".join(
        name if name.isprintable() and name == name.strip() and "," not in name else repr(name) for name in classes
    )


def _required(name: str, classes: Sequence[str]) -> int:
    label = _label(name, classes)
    if label is None:
        expected = f"one of {listed(classes)}" if classes else "none: the generator is unconditional"
        raise UserError(f"--label is {name!r}, expected {expected}")
    return label


def _label(name: str, classes: Sequence[str]) -> int | None:
    for same in (str, _composed):
        fitting = [label for label, known in enumerate(classes) if same(known) == same(name)]
        if len(fitting) == 1:
            return fitting[0]
    return None


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()
