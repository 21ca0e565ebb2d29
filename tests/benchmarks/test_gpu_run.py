"""`make gpu` without a GPU: tasks that end, fail, crash, hang or leave processes behind; what is on disk after each."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu.record import CUT_SHORT, NOT_RUN, Record
from benchmarks.gpu.run import Stage, Task, run

LONG = 60.0
ROW = (
    "import sys; file = open(sys.argv[sys.argv.index('--rows') + 1], 'a'); file.write('{\"n\": %d}\\n'); file.flush();"
)


def task(name: str, code: str, box_s: float = LONG) -> Task:
    return Task(name, (sys.executable, "-S", "-c", code), box_s)


def stage(name: str, *tasks: Task, box_s: float = LONG, at_once: int = 1) -> Stage:
    return Stage(name, box_s, lambda record: list(tasks), at_once)


def on_disk(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def statuses(folder: Path) -> dict[str, str]:
    return {task["name"]: task["status"] for tasks in on_disk(folder)["stages"].values() for task in tasks}


def test_stages_run_in_order_and_every_task_is_on_disk_before_the_next(tmp_path):
    look = f"import json; print(sorted(json.load(open({str(tmp_path / 'results.json')!r}))['stages'].items()))"
    second = f"{ROW % 2} {look.replace('print(', 'open(' + repr(str(tmp_path / 'seen')) + ', chr(119)).write(str(')})"
    stages = [stage("one", task("a", ROW % 1)), stage("two", task("b", second))]
    run(stages, Record(tmp_path, device="fake"), LONG)
    whole = on_disk(tmp_path)
    assert whole["suite"] == "gpu"
    assert whole["device"] == "fake"
    assert list(whole["stages"]) == ["one", "two"]
    assert [task["rows"] for tasks in whole["stages"].values() for task in tasks] == [[{"n": 1}], [{"n": 2}]]
    assert "'n': 1" in (tmp_path / "seen").read_text(), "the first stage was not on disk when the second ran"
    assert not (tmp_path / "failures.log").read_text()


def test_a_task_that_fails_crashes_or_hangs_stops_no_other_and_keeps_its_rows(tmp_path):
    tasks = [
        task("fails", ROW % 1 + "print('the reason'); sys.exit(3)"),
        task("crashes", ROW % 2 + "import os; os.kill(os.getpid(), 11)"),
        task("hangs", ROW % 3 + "file.write('{\"n\": '); file.flush(); import time; time.sleep(600)", box_s=1.0),
        task("ends", ROW % 4),
    ]
    record = Record(tmp_path)
    began = time.monotonic()
    run([stage("all", *tasks), stage("next", task("after", ROW % 5))], record, LONG)
    assert time.monotonic() - began < LONG / 2
    assert statuses(tmp_path) == {
        "fails": "exit status 3",
        "crashes": "killed by SIGSEGV",
        "hangs": "timed out after 1 s",
        "ends": "ok",
        "after": "ok",
    }
    assert record.rows("all") == [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}]
    log = (tmp_path / "failures.log").read_text()
    assert log.count("=== ") == 3
    assert "=== all: fails: exit status 3\nthe reason\n" in log
    assert [result.name for _, result in record.incomplete()] == ["fails", "crashes", "hangs"]
    assert all(result.failed for _, result in record.incomplete())


def test_what_a_task_leaves_behind_is_ended_with_it(tmp_path):
    child = tmp_path / "child"
    code = (
        f"import subprocess, sys; p = subprocess.Popen(['sleep', '600']); open({str(child)!r}, 'w').write(str(p.pid))"
    )
    run([stage("one", task("parent", code))], Record(tmp_path), LONG)
    assert has_ended(int(child.read_text()))


def test_a_stage_ends_at_its_box_and_leaves_the_budget_to_the_next(tmp_path):
    slow = "import time; time.sleep(600)"
    stages = [stage("slow", task("cut", slow), task("never", slow), box_s=1.0), stage("next", task("after", ROW % 1))]
    record = Record(tmp_path)
    run(stages, record, LONG)
    assert statuses(tmp_path) == {"cut": CUT_SHORT, "never": NOT_RUN, "after": "ok"}
    assert [result.failed for _, result in record.incomplete()] == [False, False]


def test_the_budget_ends_all_stages(tmp_path):
    slow = "import time; time.sleep(600)"
    began = time.monotonic()
    run([stage("slow", task("cut", slow)), stage("next", task("never", ROW % 1))], Record(tmp_path), 1.0)
    assert time.monotonic() - began < LONG / 2
    assert statuses(tmp_path) == {"cut": CUT_SHORT, "never": NOT_RUN}


def test_tasks_of_a_stage_run_beside_each_other_where_it_says_so(tmp_path):
    """Each waits for the other: one after the other they would hang."""
    code = (
        "import os, sys, time; mine, other = sys.argv[1:3]; open(mine, 'w').close()\n"
        "while not os.path.exists(other): time.sleep(0.01)"
    )
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    tasks = [Task(mine, (sys.executable, "-S", "-c", code, mine, other), 20.0) for mine, other in ((a, b), (b, a))]
    run([stage("both", *tasks, at_once=2)], Record(tmp_path), LONG)
    assert set(statuses(tmp_path).values()) == {"ok"}


def test_a_stage_that_cannot_say_its_tasks_is_a_failure_of_its_own(tmp_path):
    def unknown(record: Record) -> list[Task]:
        raise LookupError("stage machine has found no op")

    record = Record(tmp_path)
    run([Stage("ops", LONG, unknown), stage("next", task("after", ROW % 1))], record, LONG)
    assert statuses(tmp_path) == {"ops": "no tasks: LookupError: stage machine has found no op", "after": "ok"}
    assert [result.failed for _, result in record.incomplete()] == [True]


RUNNER = """
import sys; from pathlib import Path
from benchmarks.gpu.record import Record
from benchmarks.gpu.run import run, stop_on_signals
from tests.benchmarks.test_gpu_run import ROW, stage, task
hang = ROW % 2 + "import os, time; open({pid!r}, 'w').write(str(os.getpid())); time.sleep(600)"
with stop_on_signals():
    run([stage("one", task("a", ROW % 1)), stage("two", task("b", hang))], Record(Path({folder!r})), 600)
"""


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda signal: signal.name)
def test_what_was_found_is_on_disk_when_the_run_is_ended(tmp_path, stop):
    pid = tmp_path / "pid"
    code = RUNNER.format(folder=str(tmp_path), pid=str(pid))
    # A shell's background jobs ignore SIGINT, and what they start does too.
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    quiet = subprocess.DEVNULL
    runner = subprocess.Popen([sys.executable, "-c", code], stdout=quiet, stderr=quiet, preexec_fn=heed)
    waited = time.monotonic()
    while not (pid.exists() and pid.read_text()):
        assert time.monotonic() - waited < LONG
        time.sleep(0.02)
    runner.send_signal(stop)
    runner.wait(LONG)
    found = on_disk(tmp_path)["stages"]
    assert found["one"][0]["rows"] == [{"n": 1}]
    if stop == signal.SIGKILL:  # nobody is left to end the task
        os.kill(int(pid.read_text()), signal.SIGKILL)
    else:
        assert found["two"][0]["status"] == "interrupted"
        assert found["two"][0]["rows"] == [{"n": 2}]
        assert has_ended(int(pid.read_text()))


def has_ended(pid: int) -> bool:
    """Within a few seconds; one that has ended may still have its line in the table of processes."""
    for _ in range(100):
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False
