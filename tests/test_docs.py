"""Links and paths in the Markdown files exist, and CONTRIBUTING.md names every package."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(path):
    """The text without fenced blocks and code spans, in which brackets are no links."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(path):
    """The headings as GitHub names them: lower case, punctuation dropped, spaces to hyphens, repetitions numbered."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *$", text, re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        i = 1
        while (unique := name if i == 1 else f"{name}-{i - 1}") in found:
            i += 1
        found.add(unique)
    return found


def broken(path):
    """Every link of a file that leads nowhere, with the reason."""
    found = []
    for link in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", link):  # another site
            continue
        address, _, anchor = link.partition("#")
        target = path if not address else (path.parent / address).resolve()
        if not target.exists():
            found.append(f"{link}: no such file")
        elif anchor and (target.suffix != ".md" or anchor not in anchors(target)):
            found.append(f"{link}: no such heading")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path):
    assert broken(path) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b`, c\n\n## Twice\n\n## Twice\n\n[1](#a-b-c) [2](page.md#twice-1) [3](https://x.y/z) `[4](5)`\n\n"
        "[6](gone.md) [7](#gone) [8](page.md#twice-2)\n"
    )
    assert broken(page) == ["gone.md: no such file", "#gone: no such heading", "page.md#twice-2: no such heading"]


CURRENT = [path for path in FILES if path.name != "CHANGELOG.md"]  # which names files of the past


@pytest.mark.parametrize("path", CURRENT, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_in_code_spans_exist(path):
    spans = re.findall(r"`([^`\n]+)`", path.read_text())
    folders = "benchmarks|csrc|docs|fastgan|kernels|tests"
    found = {name for span in spans for name in re.findall(rf"(?<![\w/.-])((?:{folders})/[\w./*-]*)", span)}
    assert [name for name in sorted(found) if not any(ROOT.glob(name.rstrip("/.")))] == []


def test_contributing_names_every_package():
    named = set(re.findall(r"`([\w/]+)/?`", (ROOT / "CONTRIBUTING.md").read_text()))
    packages = {f"fastgan/{path.parent.name}" for path in (ROOT / "fastgan").glob("*/__init__.py")}
    assert {name for name in packages if not {name, f"{name}/"} & named} == set()
