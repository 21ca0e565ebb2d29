"""Tiny critics for the tests of the penalised step, right and deliberately wrong ways to take it, and a fake result."""

from torch import nn
from torch.nn.utils import parametrizations

from benchmarks.penalties import steps
from benchmarks.penalties.critics import Kind
from benchmarks.penalties.results import Results, Row


def convolutional() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 1))


def normalised() -> nn.Module:
    critic = convolutional()
    parametrizations.spectral_norm(critic[0])
    return critic


def curved() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(144, 1))


KINDS = {
    "tiny": Kind("tiny", convolutional, (3, 8, 8), 4, 4, several=True),
    "normalised": Kind("normalised", normalised, (3, 8, 8), 4, 4),
    "curved": Kind("curved", curved, (3, 8, 8), 4, 4),
}


def without_penalties(subject):
    steps.plain(subject)


def slightly_too_long(subject):
    steps.joint(subject)
    for parameter in subject.critic.parameters():
        parameter.grad *= 1 + 1e-4


def second_half_of_the_penalties_only(subject):
    """A penalty on the fakes alone."""
    import dataclasses

    objective = dataclasses.replace(subject.objective, penalties=subject.objective.penalties[1:])
    steps.joint(dataclasses.replace(subject, objective=objective))


def broken(subject):
    raise RuntimeError("no such method")


MEGABYTES = 1 << 20
TIMES = {"plain": 10.0, "plain, alone": 12.5, "joint": 30.0, "separate": 40.0, "one_pass": 13.0}
PEAKS = {"plain": 60, "plain, alone": 60, "joint": 100, "separate": 100, "one_pass": 50}
ENVIRONMENT = {
    "device": "A Processor, 2 cores", "device_type": "cpu", "slug": "a-processor-2-cores", "cores": 2, "threads": 2,
    "load_average": 0.0, "date": "2026-01-02T03:04:05+00:00", "commit": "0123456789abcdef", "dirty": False,
    "versions": {"python": "3", "torch": "2", "triton": None, "fastgan": "0", "cuda": None, "system": "Linux"},
}  # fmt: skip


def rows(critic, objective="R1+R2", times=TIMES, peaks=PEAKS):
    """A status in place of a time."""
    return [
        Row(
            critic,
            objective,
            name,
            status=value if isinstance(value, str) else "ok",
            median_ms=None if isinstance(value, str) else value,
            peak_bytes=peaks[name] * MEGABYTES,
            conv_forward=6,
            conv_backward=10,
        )
        for name, value in times.items()
    ]


def results(*critics, device_type="cpu", found=None):
    environment = {**ENVIRONMENT, "device_type": device_type}
    conditions = {"busy": False, "timing": "Medians.", "memory_resolution_bytes": 65536, "seconds": 1.0}
    about = {name: {"batch": 4, "shape": [3, 8, 8], "parameters": 100} for name in critics}
    found = [row for name in critics for row in rows(name)] if found is None else found
    return Results("float32", False, environment, conditions, about, found)
