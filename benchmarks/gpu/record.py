"""What a run has found, on disk after every task: results.json, and failures.log for people."""

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SUITE = "gpu"
OK = "ok"
NOT_RUN = "not run: the stage's time was used up"
CUT_SHORT = "cut short: the stage's time was used up"
LOG_LINES = 60  # of a failed task's output


@dataclass(frozen=True)
class Result:
    """A task that has ended: how (`OK` or what was wrong), and the rows that it wrote until then."""

    name: str
    status: str
    seconds: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    log: str = ""

    @classmethod
    def of_files(cls, name: str, status: str, seconds: float, rows: Path, log: Path) -> "Result":
        return cls(name, status, round(seconds, 1), _complete_rows(rows), log.read_text(errors="replace"))

    @property
    def failed(self) -> bool:
        return self.status not in (OK, NOT_RUN, CUT_SHORT)


def _complete_rows(path: Path) -> list[dict[str, Any]]:
    """A process that was killed may have left its last line unfinished."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


class Record:
    """The results of a run, stage by stage, in `folder`."""

    def __init__(self, folder: Path, **about: Any) -> None:
        """`about`: what else belongs into the file, e.g. the device and the budget."""
        self.folder, self.about = folder, about
        self.stages: dict[str, list[Result]] = {}
        self.began = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "failures.log").write_text("")
        self._save()

    def begin(self, stage: str) -> None:
        self.stages[stage] = []
        print(f"{self._seconds():5.0f} s  {stage}", flush=True)

    def add(self, result: Result) -> None:
        """Adds a task of the stage that began last; it is on disk when this returns."""
        stage = list(self.stages)[-1]
        self.stages[stage].append(result)
        self._save()
        print(f"         {result.name}: {result.status}, {result.seconds:.1f} s, {len(result.rows)} rows", flush=True)
        if result.failed:
            with (self.folder / "failures.log").open("a") as file:
                file.write(_failure(stage, result))

    def rows(self, stage: str) -> list[dict[str, Any]]:
        return [row for result in self.stages.get(stage, []) for row in result.rows]

    def passed(self, stage: str) -> bool:
        """Whether the stage was run and nothing in it failed."""
        return all(result.status == OK for result in self.stages[stage])

    def incomplete(self) -> list[tuple[str, Result]]:
        """Every task that failed or for which the time was too short, with its stage."""
        return [(stage, each) for stage, results in self.stages.items() for each in results if each.status != OK]

    def _seconds(self) -> float:
        return time.monotonic() - self.began

    def _save(self) -> None:
        stages = {
            stage: [{key: value for key, value in asdict(result).items() if key != "log"} for result in results]
            for stage, results in self.stages.items()
        }
        whole = {"suite": SUITE, **self.about, "seconds": round(self._seconds(), 1), "stages": stages}
        unfinished = self.folder / "results.json.unfinished"
        unfinished.write_text(json.dumps(whole, indent=1) + "\n")
        os.replace(unfinished, self.folder / "results.json")  # at no moment is there half a file


def _failure(stage: str, result: Result) -> str:
    wrong = [json.dumps(row) for row in result.rows if row.get("status", OK) not in (OK, "passed", "skipped")]
    lines = [f"=== {stage}: {result.name}: {result.status}", *wrong, *result.log.splitlines()[-LOG_LINES:], ""]
    return "\n".join(lines) + "\n"
