"""`python -m benchmarks.gpu`: builds, tests and measures on this machine's GPU within a budget of seconds.

Exits 1 when a task failed, 2 when there is no GPU.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.record import Record
from benchmarks.gpu.run import run, stop_on_signals
from benchmarks.gpu.stages import Device, stages

FOLDER = Path(__file__).resolve().parent.parent / "results"
LOOK_S = 60
LOOK = """
import json, torch
if not torch.cuda.is_available(): raise SystemExit("torch finds no CUDA device")
print(json.dumps([torch.cuda.get_device_name(), "{}.{}".format(*torch.cuda.get_device_capability())]))
"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=480, help="seconds in all (480)")
    parser.add_argument("--stages", nargs="+", metavar="NAME", help="these only; `machine` names what others go over")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: benchmarks/results/gpu-DEVICE")
    arguments = parser.parse_args(argv)
    began = time.monotonic()
    device = look()
    chosen = stages(device)
    unknown = set(arguments.stages or ()) - {stage.name for stage in chosen}
    if unknown:
        parser.error(f"--stages: {sorted(unknown)} are none of {[stage.name for stage in chosen]}")
    if arguments.stages:
        chosen = [stage for stage in chosen if stage.name in arguments.stages]
    folder = arguments.out or FOLDER / f"gpu-{slug(device.name)}"
    record = Record(folder, device=device.name, architecture=device.architecture, budget_s=arguments.budget)
    with stop_on_signals():
        run(chosen, record, arguments.budget - (time.monotonic() - began))
    incomplete = record.incomplete()
    for stage, result in incomplete:
        print(f"{stage}: {result.name}: {result.status}")
    failed = sum(result.failed for _, result in incomplete)
    print(f"{failed} tasks failed; results.json and failures.log are in {folder}")
    return int(failed > 0)


def look() -> Device:
    """The GPU, asked by a process of its own: this one holds no context on it."""
    try:
        done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, timeout=LOOK_S, check=True)
    except subprocess.TimeoutExpired:
        reason = f"the GPU gave no answer in {LOOK_S} s"
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().splitlines()[-1]
    else:
        return Device("cuda", *json.loads(done.stdout.splitlines()[-1]))
    print(f"python -m benchmarks.gpu: {reason}", file=sys.stderr)
    raise SystemExit(2)


def slug(name: str) -> str:
    """As environment.slug, which cannot be imported before fastgan is built."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


if __name__ == "__main__":
    raise SystemExit(main())
