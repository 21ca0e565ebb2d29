"""fastgan.critic_loss against the textbook's double backward in float64, for one of the benchmarks' critics.

Small batches, every objective, float32 and bfloat16 under autocast in both memory formats; nothing is timed. The rule
is that of benchmarks/penalties/check.py. TF32 is off: it would be the yardstick's error in float32 and hide ours.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.gpu import rows
from benchmarks.penalties import check
from benchmarks.penalties.case import MAIN, OBJECTIVES, Case
from benchmarks.penalties.critics import CRITICS
from benchmarks.penalties.results import Row
from benchmarks.penalties.steps import BOTH, LEAN, ONE_PASS, STEPS, reason_missing
from benchmarks.results import ERROR, WRONG

BATCH = 8
OURS = (ONE_PASS, LEAN, BOTH)
LAYOUTS = ((torch.float32, False), (torch.bfloat16, False), (torch.bfloat16, True))


def find(name: str, device: torch.device) -> Iterator[dict[str, Any]]:
    torch.backends.cudnn.allow_tf32 = False
    kind = CRITICS[name]
    for dtype, channels_last in LAYOUTS:
        if channels_last and not kind.convolutional:
            continue
        for objective in OBJECTIVES.values():
            case = Case(kind, objective, device, dtype, channels_last, BATCH)
            for row in _rows(case):
                yield {"dtype": str(dtype), "channels_last": channels_last, **row}


def _rows(case: Case) -> Iterator[dict[str, Any]]:
    subject = case.subject()
    wide = subject.double()
    for name in OURS:
        step, row = STEPS[name], Row(case.kind.name, case.objective.name, name)
        if reason_missing(name, subject) is not None or (step.main_only and case.objective.name != MAIN):
            continue
        try:
            truth = check.gradients(STEPS[step.truth].run, wide)
            known = check.errors(check.gradients(STEPS[step.yardstick].run, subject), truth)
            found = check.errors(check.gradients(step.run, subject), truth)
        except Exception as error:
            yield asdict(row) | {"status": ERROR, "message": f"{type(error).__name__}: {error}"[:300]}
            continue
        complaint = check.complaint(found, known, case.dtype, step.rounds_otherwise or case.objective.name == "WGAN-GP")
        found_out = {"error": max(found), "yardstick": max(known), "message": complaint}
        yield asdict(row) | found_out | ({"status": WRONG} if complaint else {})


if __name__ == "__main__":
    raise SystemExit(rows.main(find))
