"""Pieces of generated Markdown: lines of a table, the origin of figures, a part between markers."""

from collections.abc import Sequence
from typing import Any


def line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def head(headings: Sequence[str]) -> list[str]:
    """The first column to the left, figures to the right."""
    return [line(headings), line(("---", *("---:" for _ in headings[1:])))]


def origin(dtype: str, environment: dict[str, Any]) -> str:
    """Precision, versions, threads, date and commit in a sentence."""
    versions = environment["versions"]
    software = ", ".join(f"{k} {versions[k]}" for k in ("fastgan", "torch", "triton", "python", "cuda") if versions[k])
    commit = (environment["commit"] or "unknown")[:9] + (" with uncommitted changes" if environment["dirty"] else "")
    return (
        f"{dtype}, {software}, {versions['system']}, {environment['threads']} threads, {environment['date'][:10]}, "
        f"commit {commit}."
    )


def title(environment: dict[str, Any], dtype: str = "float32") -> str:
    """The heading of one run: the device, and the dtype unless it is float32."""
    return environment["device"] + ("" if dtype == "float32" else f", {dtype}")


def small(sentences: Sequence[str], busy: bool) -> str:
    """A caption in small print, which says where the machine was busy."""
    warning = "**The machine was busy with other work during this measurement: the figures are inflated.**"
    return "<sub>" + " ".join([*filter(None, sentences), *([warning] if busy else [])]) + "</sub>"


def between(text: str, begin: str, end: str, sections: Sequence[str]) -> str:
    """The text with everything between the two markers replaced.

    Raises:
        ValueError: the markers are not there, once each and in order.
    """
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"expected {begin} and then {end}, once each")
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    body = "\n\n".join(sections) or "No results yet: `make bench` writes them."
    return f"{before}{begin}\n\n{body}\n\n{end}{after}"
