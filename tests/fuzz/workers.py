"""Many programs in a few processes; one that kills its process is a failure like any other."""

import logging
import multiprocessing
import multiprocessing.connection
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from fastgan.ops.convolution import conv1x1_backends, shared_filter
from tests.fuzz.checking import Failure, Verdict, check
from tests.fuzz.faults import FAULTS
from tests.fuzz.generating import generate
from tests.fuzz.shrinking import shrink
from tests.fuzz.writing import source

REFRESH = 1500
"""Programs that a process checks before another takes its place: caches of torch's compiler grow."""


@dataclass
class Result:
    """What was found of the program of one index.

    Attributes:
        index: generates the program together with the run's seed.
        verdict: on the program as it was generated.
        eligible: whether every operation in it is known to be affine.
        program: the source that shows the first failure, shrunk if there was time for it.
        failure: as the shrunk program shows it.
        used: the operations and the user's doings that are left in the shrunk program.
    """

    index: int
    verdict: Verdict
    eligible: bool
    program: str = ""
    failure: Failure | None = None
    used: tuple[str, ...] = field(default=())


def examine(seed: str, index: int, seconds: float = 0.0) -> Result:
    """Generates and checks one program; `seconds`: how long a failure may be shrunk."""
    program, growth = generate(f"{seed}:{index}")
    text = source(program, growth)
    verdict = check(program, text)
    result = Result(index, verdict, growth.eligible and program.output != "smooth")
    if verdict.failures:
        first = verdict.failures[0]
        result.program, result.failure = text, first
        if seconds:
            program, result.program, result.failure = shrink(program, first, seconds)
        result.used = _used(program)
        result.program = _header(program) + result.program
    return result


def run(seed: str, critics: int, workers: int, shrunk: int, seconds: float, fault: str = "") -> Iterator[Result]:
    """The results of programs 0 to critics - 1, as they come.

    Args:
        seed: of the whole run.
        critics: how many programs.
        workers: processes.
        shrunk: how many failures are shrunk, `seconds` each.
        fault: the name of one in `faults.FAULTS` that is put back.

    Raises:
        RuntimeError: the fuzzer itself failed in a process; with its traceback.
    """
    context = multiprocessing.get_context("spawn")
    following, budget = context.Value("i", 0), context.Value("i", shrunk)
    task = _Task(seed, critics, seconds, fault)
    running = [_Worker(context, task, following, budget) for _ in range(workers)]
    try:
        while running:
            for worker in multiprocessing.connection.wait(running):
                found = worker.receive()
                if found is not None:
                    yield found
                if worker.finished:
                    running.remove(worker)
                    if following.value < critics:
                        running.append(_Worker(context, task, following, budget))
    finally:
        for worker in running:
            worker.process.terminate()


class _Task(NamedTuple):
    seed: str
    critics: int
    seconds: float
    fault: str


class _Worker:
    """A process, and what is known of it here."""

    def __init__(self, context: Any, task: _Task, following: Any, budget: Any) -> None:
        self.pipe, other = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(task, following, budget, other), daemon=True)
        self.process.start()
        other.close()
        self.index: int | None = None
        self.finished = False

    def fileno(self) -> int:
        return self.pipe.fileno()

    def receive(self) -> Result | None:
        """The next result, if that is what has come."""
        try:
            message = self.pipe.recv()
        except EOFError:
            self.finished = True
            self.process.join()
            if self.index is None:
                return None
            failure = Failure("any", "dies", f"the process died with exit code {self.process.exitcode}")
            index, self.index = self.index, None
            return Result(index, Verdict("wrong", failures=[failure]), False, "", failure)
        if isinstance(message, str):
            raise RuntimeError(f"the fuzzer itself failed\n{message}")
        self.index = message if isinstance(message, int) else None
        return message if isinstance(message, Result) else None


def _work(task: _Task, following: Any, budget: Any, pipe: Any) -> None:
    torch.set_num_threads(1)
    torch._logging.set_logs(all=logging.ERROR)
    # The programs' images are small: the kernels are for larger ones.
    conv1x1_backends.LEAST_ELEMENTS = shared_filter.LEAST_ELEMENTS = shared_filter.LEAST_SIDE = 1
    with FAULTS[task.fault]():
        for _ in range(REFRESH):
            index = _next(following)
            if index >= task.critics:
                break
            pipe.send(index)
            try:
                result = examine(task.seed, index)
                if result.failure is not None and _next(budget, -1) > 0:
                    result = examine(task.seed, index, task.seconds)
                pipe.send(result)
            except Exception:
                pipe.send(f"program {task.seed}:{index}\n{traceback.format_exc()}")
                break
    pipe.close()


def _next(counter: Any, step: int = 1) -> int:
    """The number, which is another for whoever asks next."""
    with counter.get_lock():
        value = counter.value
        counter.value += step
    return value


def _used(program: Any) -> tuple[str, ...]:
    around = program.around
    genes = [gene.operation for gene in program.genes]
    doings = [f"form: {around.form}"] * (around.form != "module")
    doings += [f"flow: {around.flow}"] * (around.flow != "once") + ["a term in the loss"] * bool(around.terms)
    doings += ["changed between"] * bool(around.change) + ["changed after the first call"] * bool(around.late)
    doings += ["early"] * bool(around.early) + [f"layout: {around.layout}"] * (around.layout != "contiguous")
    doings += ["explain first"] * around.explained + ["group of spectral norms"] * program.group
    doings += [f"default dtype {program.dtype}"] * (program.dtype != "float32")
    return (*sorted(set(genes)), *doings)


def _header(program: Any) -> str:
    seed = program.seed
    return (
        f"# default dtype {program.dtype} in use(); torch.manual_seed({seed}) before Critic(), {seed + 1} before "
        f"data(), {seed + 2} before use()\n"
    )
