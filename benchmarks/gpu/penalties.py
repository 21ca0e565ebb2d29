"""The penalised step of one critic, timed: "resnet-32", or "resnet-32 compiled" with torch.compile beside it.

In bfloat16 and channels_last, as one trains on a GPU, then in float32.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.gpu import rows
from benchmarks.penalties import suite
from benchmarks.penalties.case import MAIN, OBJECTIVES, Case
from benchmarks.penalties.critics import CRITICS

LAYOUTS = ((torch.bfloat16, True), (torch.float32, False))
BUDGET_S = 1.0
BATCH: int | None = None  # each critic's own


def find(name: str, device: torch.device) -> Iterator[dict[str, Any]]:
    critic, _, compiled = name.partition(" ")
    options = suite.Options(with_compile=bool(compiled), budget_s=BUDGET_S)
    for dtype, channels_last in LAYOUTS:
        case = Case(CRITICS[critic], OBJECTIVES[MAIN], device, dtype, channels_last, BATCH)
        for row in suite.run_case(case, options):
            yield {"dtype": str(dtype), "channels_last": channels_last, "batch": case.batch, **asdict(row)}


if __name__ == "__main__":
    raise SystemExit(rows.main(find))
