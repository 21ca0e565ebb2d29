"""Writes a chart as PNG together with a fingerprint of the figures that it shows, so that a stale chart is noticed."""

import hashlib
import json
from pathlib import Path
from typing import Any

KEY = "Description"  # a text field of the PNG


def fingerprint(figures: Any) -> str:
    """A digest of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(figures, sort_keys=True).encode()).hexdigest()


def save(figure: Any, path: Path, figures: Any, dpi: int) -> None:
    """Writes a matplotlib figure that shows `figures`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi, metadata={KEY: fingerprint(figures)})


def shows(path: Path, figures: Any) -> bool:
    """Whether the file exists and was drawn from these figures."""
    from PIL import Image

    if not path.is_file():
        return False
    with Image.open(path) as image:
        return image.info.get(KEY) == fingerprint(figures)
