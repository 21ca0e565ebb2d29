"""One op at its largest benchmark shape: every derivative checked and timed, forward as a share of copy bandwidth."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch

from benchmarks import ceiling, suite
from benchmarks.cases import Case
from benchmarks.gpu import rows
from fastgan.registry import OPS

OPTIONS = suite.Options(with_compile=False, with_memory=False, budget_s=0.3)
DTYPES = (torch.float32, torch.bfloat16)


def find(name: str, device: torch.device) -> Iterator[dict[str, Any]]:
    spec, measured = OPS[name], ceiling.measure(device)
    shape = max(spec.bench, key=lambda shape: shape.bytes_forward(4))
    for dtype in DTYPES:
        for row in suite.run_case(Case(spec, shape, device, dtype), measured, OPTIONS):
            yield {"dtype": str(dtype), **asdict(row)}


if __name__ == "__main__":
    raise SystemExit(rows.main(find))
