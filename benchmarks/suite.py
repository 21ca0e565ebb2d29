"""The loop over the cases: peak memory, then for every pass the check and, if it succeeds, the timings."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import correctness, measure, memory
from benchmarks.cases import STAGES, Case, Inputs, run, supports
from benchmarks.ceiling import Ceiling
from benchmarks.results import CALL, ERROR, GRAPH, OK, OUT_OF_MEMORY, UNSUPPORTED, WRONG, Row

NO_DOUBLE = "torch.compile's backward cannot be differentiated"


@dataclass(frozen=True)
class Options:
    """budget_s: seconds of timing per stage of a case, shared by its implementations."""

    with_compile: bool = True
    with_memory: bool = True
    budget_s: float = 1.5


def run_case(case: Case, ceiling: Ceiling, options: Options) -> Iterator[Row]:
    """All rows of a case. A failure of one implementation is its row; it stops no other."""
    try:
        names = case.implementations(options.with_compile)
        inputs = case.inputs()
    except Exception as error:
        for stage in STAGES:
            yield _failure(Row(case.spec.name, case.shape.label, stage, "eager"), error)
        return
    peaks = {name: _peaks(case, name) for name in names} if options.with_memory and case.device.type == "cpu" else {}
    functions = {name: case.function(name) for name in names}
    for stage in STAGES:
        rows = {name: Row(case.spec.name, case.shape.label, stage, name) for name in names}
        rows = {name: _with_peak(row, peaks.get(name, {}).get(stage)) for name, row in rows.items()}
        try:
            yield from _run_stage(case, inputs, functions, rows, ceiling, options)
        except Exception as error:
            yield from [_failure(row, error) for row in rows.values()]
        _release(case.device)


def _run_stage(
    case: Case,
    inputs: Inputs,
    functions: dict[str, Callable[..., Tensor]],
    rows: dict[str, Row],
    ceiling: Ceiling,
    options: Options,
) -> list[Row]:
    stage = next(iter(rows.values())).stage
    _check(case, inputs, stage, rows, functions)
    passed = [name for name, row in rows.items() if row.status == OK]
    calls: dict[str, measure.Call] = {name: partial(run, functions[name], inputs, stage) for name in passed}
    if case.device.type == "cuda" and options.with_memory:
        _measure_peaks(rows, calls)
    return list(_timed(case, ceiling, rows, calls, options.budget_s))


# --- memory -----------------------------------------------------------------------------------------------------------


def peaks_in_this_process(op: str, shape: str, dtype: torch.dtype, implementation: str, large: bool) -> dict[str, Any]:
    """Stage -> peak bytes, or the reason (str) why it does not fit; runs in a process of its own."""
    from benchmarks.cases import cases

    found = [c for c in cases(torch.device("cpu"), dtype, [op], large=large) if c.shape.label == shape]
    case = found[0]
    inputs, function = case.inputs(), case.function(implementation)
    peaks: dict[str, Any] = {}
    for stage in STAGES:
        if not supports(implementation, stage):
            continue
        try:
            peaks[stage] = memory.peak_cpu(partial(run, function, inputs, stage))
        except Exception as error:
            if not memory.is_out_of_memory(error):
                raise
            peaks[stage] = "out of memory"
            gc.collect()
    return peaks


def _peaks(case: Case, implementation: str) -> dict[str, Any]:
    arguments = (case.spec.name, case.shape.label, case.dtype, implementation, case.shape not in case.spec.bench)
    try:
        return memory.in_fresh_process(peaks_in_this_process, *arguments)
    except memory.NotEnoughMemoryError:
        return dict.fromkeys(STAGES, "out of memory")
    except RuntimeError as error:
        return dict.fromkeys(STAGES, f"memory: {error}")


def _with_peak(row: Row, peak: int | str | None) -> Row:
    """What does not fit in a process of its own is not tried in this one, which the kernel might kill."""
    if peak == "out of memory":
        return replace(row, status=OUT_OF_MEMORY)
    if isinstance(peak, str):
        return replace(row, message=peak[:300])
    return replace(row, peak_bytes=peak)


def _measure_peaks(rows: dict[str, Row], calls: dict[str, measure.Call]) -> None:
    for name, call in list(calls.items()):
        try:
            rows[name] = replace(rows[name], peak_bytes=memory.peak_cuda(call))
        except Exception as error:
            rows[name] = _failure(rows[name], error)
            del calls[name]


# --- correctness ------------------------------------------------------------------------------------------------------


def _check(
    case: Case, inputs: Inputs, stage: str, rows: dict[str, Row], functions: dict[str, Callable[..., Tensor]]
) -> None:
    """Gives every row its errors and its status. Eager comes first: it is the yardstick of the others."""
    try:
        truth = correctness.exact(case, inputs, stage)
    except Exception as error:
        for name, row in rows.items():
            rows[name] = replace(_failure(row, error), message=f"no float64 reference: {error}"[:300])
        return
    yardstick: list[correctness.Errors] | None = None
    for name, row in rows.items():
        if not supports(name, stage):
            rows[name] = replace(row, status=UNSUPPORTED, message=NO_DOUBLE)
            continue
        if row.status != OK:
            continue
        try:
            if name == "eager":
                yardstick = correctness.errors(run(functions[name], inputs, stage), truth)
                found, complaint = yardstick, None
            else:
                if yardstick is None:  # eager failed: the same formula in slices
                    yardstick = correctness.errors(correctness.plain(case, inputs, stage), truth)
                found, complaint = correctness.judge(name, functions[name], case, inputs, stage, truth, yardstick)
        except Exception as error:
            rows[name] = _failure(row, error)
            _release(case.device)
            continue
        rows[name] = replace(
            row,
            status=WRONG if complaint else OK,
            message=complaint or row.message,
            error=_largest(found),
            eager_error=_largest(yardstick),
        )


def _largest(errors: list[correctness.Errors]) -> float | None:
    largest = max((e.rms for e in errors), default=float("inf"))
    return largest if largest < float("inf") else None  # JSON has no infinity


def _failure(row: Row, error: Exception) -> Row:
    status = OUT_OF_MEMORY if memory.is_out_of_memory(error) else ERROR
    return replace(row, status=status, message=f"{type(error).__name__}: {error}".splitlines()[0][:300])


# --- time -------------------------------------------------------------------------------------------------------------


def _timed(
    case: Case, ceiling: Ceiling, rows: dict[str, Row], calls: dict[str, measure.Call], budget_s: float
) -> Iterator[Row]:
    timings: dict[str, dict[str, measure.Timing | Exception]] = {}
    if case.device.type == "cpu":
        timings[CALL] = measure.time_cpu(calls, budget_s)
    else:
        cuda = measure.Cuda(case.device)
        timings[CALL] = cuda.time_calls(calls, budget_s / 2)
        timings[GRAPH] = cuda.time_graphs(calls, budget_s / 2)
    for timer, found in timings.items():
        for name, row in rows.items():
            row = replace(row, timer=timer)
            timing = found.get(name)
            if isinstance(timing, measure.Timing):
                row = _with_rates(replace(row, **vars(timing)), case, ceiling)
            elif timing is not None:
                row = _failure(row, timing)
                if timer == GRAPH and row.status == ERROR:  # it ran, so this says only that it cannot be captured
                    row = replace(row, status=UNSUPPORTED, message=f"no CUDA graph: {row.message}")
            yield row


def _with_rates(row: Row, case: Case, ceiling: Ceiling) -> Row:
    """The registry states the least work of forward only."""
    if row.stage != "forward" or not row.median_ms:
        return row
    moved = case.shape.bytes_forward(torch.finfo(case.dtype).bits // 8)
    seconds = row.median_ms * 1e-3
    bound, least = ceiling.bound(moved, case.shape.flops_forward, cached=case.device.type == "cpu")
    return replace(
        row,
        bytes_per_s=moved / seconds,
        flops_per_s=case.shape.flops_forward / seconds,
        bound=bound,
        ceiling_share=least / seconds,
    )


def _release(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
