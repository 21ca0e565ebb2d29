"""The loop over critics and objectives: the check, then convolution calls, memory and time of what passed."""

import gc
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch

from benchmarks import measure, memory
from benchmarks.penalties import check, steps
from benchmarks.penalties.case import MAIN, Case, Subject
from benchmarks.penalties.count import convolutions
from benchmarks.penalties.results import Row
from benchmarks.penalties.steps import STEPS
from benchmarks.results import CALL, ERROR, GRAPH, OK, OUT_OF_MEMORY, UNSUPPORTED, WRONG

COUNTING_BATCH = 2  # the number of convolutions does not depend on it


@dataclass(frozen=True)
class Options:
    """budget_s: seconds of timing per critic and objective, shared by the implementations (at least three rounds)."""

    with_compile: bool = True
    with_memory: bool = True
    with_graphs: bool = True
    budget_s: float = 3.0


def run_case(case: Case, options: Options) -> list[Row]:
    """All rows of a case. A failure of one implementation is its row; it stops no other."""
    main = case.objective.name == MAIN
    rows = {
        name: Row(case.kind.name, case.objective.name, name)
        for name, step in STEPS.items()
        if (main or not step.main_only) and (options.with_compile or not step.compiled)
    }
    try:
        subject = case.subject()
        _check(case, subject, rows)
        _count(case, rows)
        if options.with_memory:
            _measure_memory(case, subject, rows)
        return _timed(case, subject, rows, options)
    except Exception as error:
        return [_failure(row, error) for row in rows.values()]
    finally:
        subject = None  # type: ignore[assignment]
        torch._dynamo.reset()
        _release(case.device)


# --- correctness ------------------------------------------------------------------------------------------------------


def _check(case: Case, subject: Subject, rows: dict[str, Row]) -> None:
    """Gives every row its errors and its status. A yardstick comes before what is held against it."""
    exact = subject.double()
    truths: dict[str, check.Gradients] = {}
    yardsticks: dict[str, list[float]] = {}

    def truth(name: str) -> check.Gradients:
        if name not in truths:
            truths[name] = check.gradients(STEPS[name].run, exact)
        return truths[name]

    if not check.visible(truth(steps.JOINT), truth(steps.PLAIN)):
        raise RuntimeError("loss or penalties are too small a part of the gradient for the check to see them")
    for name, row in rows.items():
        step = STEPS[name]
        reason = steps.reason_missing(name, subject)
        if reason is not None:
            rows[name] = replace(row, status=UNSUPPORTED, message=reason)
            continue
        try:
            # Where a forward pass changes buffers, more of them are another function: its own float64 is the truth.
            of = name if name == steps.SEPARATE and subject.buffers else step.truth
            found = check.errors(check.gradients(step.run, subject), truth(of))
        except Exception as error:
            rows[name] = _failure(row, error)
            subject.clear()
            _release(case.device)
            continue
        known = yardsticks.setdefault(name, found) if name == step.yardstick else yardsticks.get(step.yardstick)
        if known is None:
            rows[name] = replace(row, status=ERROR, message=f"{step.yardstick}, its yardstick, failed")
            continue
        rounds_otherwise = step.rounds_otherwise or case.objective.name == "WGAN-GP"
        complaint = check.complaint(found, known, case.dtype, rounds_otherwise)
        rows[name] = replace(
            row,
            status=WRONG if complaint else OK,
            message=complaint,
            error=_finite(max(found)),
            yardstick=_finite(max(known)),
        )
    subject.reset()


def _finite(number: float) -> float | None:
    return number if number < float("inf") else None  # JSON has no infinity


def _failure(row: Row, error: Exception) -> Row:
    status = OUT_OF_MEMORY if memory.is_out_of_memory(error) else ERROR
    text = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    return replace(row, status=status, message=text, median_ms=None)


# --- convolutions and memory ------------------------------------------------------------------------------------------


def _count(case: Case, rows: dict[str, Row]) -> None:
    subject = case.subject(COUNTING_BATCH)
    for name, row in rows.items():
        if row.status == OK and not STEPS[name].compiled:  # compiled code is not called through ATen
            forward, backward = convolutions(partial(check.take, STEPS[name].run, subject))
            rows[name] = replace(row, conv_forward=forward, conv_backward=backward)


def peak_in_this_process(case: Case, implementation: str) -> int:
    """Peak extra bytes of a step on the CPU; runs in a process of its own."""
    subject = case.subject()
    gc.disable()  # what an earlier call has left in cycles must not be freed in the measured one, and hide its memory
    repeats = 1 if case.kind.convolutional else 3  # small figures need a median, large ones take long
    return memory.peak_cpu(partial(check.take, STEPS[implementation].run, subject), repeats)


def _measure_memory(case: Case, subject: Subject, rows: dict[str, Row]) -> None:
    for name, row in rows.items():
        if row.status != OK:
            continue
        try:
            if case.device.type == "cuda":
                call = partial(check.take, STEPS[name].run, subject)
                call()  # workspaces of the libraries are not the step's
                gc.collect()
                rows[name] = replace(row, peak_bytes=memory.peak_cuda(call))
            elif not STEPS[name].compiled:  # a process of its own would have to compile again
                rows[name] = replace(row, peak_bytes=memory.in_fresh_process(peak_in_this_process, case, name))
        except Exception as error:
            failed = _failure(row, error)
            # A process that could not be measured says nothing about the step; one without memory does.
            rows[name] = failed if failed.status == OUT_OF_MEMORY else replace(row, message=f"memory: {failed.message}")


# --- time -------------------------------------------------------------------------------------------------------------


def _timed(case: Case, subject: Subject, rows: dict[str, Row], options: Options) -> list[Row]:
    passed = [name for name, row in rows.items() if row.status == OK]
    calls: dict[str, measure.Call] = {
        name: partial(check.take, STEPS[name].run, subject) for name in passed if not STEPS[name].alone
    }
    timings: dict[str, Mapping[str, measure.Timing | Exception]] = {}
    if case.device.type == "cpu":
        alone = {name: _time_alone(case, name, options.budget_s) for name in passed if STEPS[name].alone}
        timings[CALL] = {**measure.time_cpu(calls, options.budget_s), **alone}
    else:
        cuda = measure.Cuda(case.device)
        timings[CALL] = cuda.time_calls(calls, options.budget_s)
        if options.with_graphs:
            timings[GRAPH] = cuda.time_graphs(calls, options.budget_s)
    found = []
    for timer, times in timings.items():
        for name, row in rows.items():
            row = replace(row, timer=timer)
            timing = times.get(name)
            if isinstance(timing, measure.Timing):
                row = replace(row, **vars(timing))
            elif timing is not None:
                row = _failure(row, timing)
                if timer == GRAPH and row.status == ERROR:  # it ran, so this says only that it cannot be captured
                    row = replace(row, status=UNSUPPORTED, message=f"no CUDA graph: {row.message}")
            found.append(row)
    return found


def _time_alone(case: Case, implementation: str, budget_s: float) -> measure.Timing | Exception:
    try:
        timing: measure.Timing = memory.in_fresh_process(
            time_in_this_process, case, implementation, budget_s / len(STEPS), torch.get_num_threads()
        )
        return timing
    except Exception as error:
        return error


def time_in_this_process(case: Case, implementation: str, budget_s: float, threads: int) -> measure.Timing:
    """The time of a step on the CPU; runs in a process of its own."""
    torch.set_num_threads(threads)
    subject = case.subject()
    timing = measure.time_cpu({implementation: partial(check.take, STEPS[implementation].run, subject)}, budget_s)
    found = timing[implementation]
    if isinstance(found, Exception):
        raise found
    return found


def _release(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
