"""For every test: fresh seeds that a failure prints, poisoned memory, which tests are run, seconds by folder."""

import os
from collections import Counter

import pytest
import torch

from fastgan import allocation
from tests import rotation
from tests.interpreter import round_to_nearest

if os.environ.get("TRITON_INTERPRET") == "1":
    round_to_nearest()


def pytest_addoption(parser):
    parser.addoption("--share", type=int, default=1, metavar="N", help="an Nth of the tests; another for every version")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """FASTGAN_TEST_SEED repeats what hypothesis draws as well, which reads its option after this."""
    given = os.environ.get("FASTGAN_TEST_SEED")
    if given is not None and config.getoption("--hypothesis-seed", given) is None:
        config.option.hypothesis_seed = given


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Leaves out the tests marked gpu where there is no CUDA device, and those outside the `--share`."""
    share, gpu = config.getoption("--share"), torch.cuda.is_available()
    if share < 1:
        raise pytest.UsageError(f"--share is {share}, expected a number of at least 1")

    def is_run(item):
        return (gpu or not item.get_closest_marker("gpu")) and rotation.in_share(item.nodeid, share)

    left_out = [item for item in items if not is_run(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if is_run(item)]


def pytest_terminal_summary(terminalreporter):
    """Seconds by folder, the longest first: CONTRIBUTING.md has such a table."""
    reports = [r for some in terminalreporter.stats.values() for r in some if hasattr(r, "duration")]
    seconds, tests = Counter(), Counter()
    for report in reports:
        parts = report.nodeid.split("::")[0].split("/")
        folder = "/".join(parts[:2]) if len(parts) > 2 else parts[0]
        seconds[folder] += report.duration
        tests[folder] += report.when == "call"
    if reports:
        terminalreporter.section("seconds and tests by folder")
    for folder, total in seconds.most_common():
        terminalreporter.write_line(f"{total:7.1f} {tests[folder]:6} {folder}")


@pytest.fixture
def seed(request):
    """A fresh seed (FASTGAN_TEST_SEED repeats one); pytest prints it with the output of a failing test."""
    value = int(os.environ.get("FASTGAN_TEST_SEED", int.from_bytes(os.urandom(4), "little")))
    print(f"FASTGAN_TEST_SEED={value}")
    return value


@pytest.fixture
def generator(seed):
    """A CPU generator with that seed; the global generator gets it too."""
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


OTHER_DTYPES = (torch.float64, torch.bfloat16, torch.float16)


@pytest.fixture
def other_default_dtype(seed):
    """Another default dtype than float32, drawn with the seed: where that is given, one for all tests."""
    before, other = torch.get_default_dtype(), OTHER_DTYPES[seed % len(OTHER_DTYPES)]
    print(f"default dtype {other}")
    torch.set_default_dtype(other)
    yield other
    torch.set_default_dtype(before)


@pytest.fixture
def poisoned(monkeypatch):
    """Fills everything that the ops allocate with NaN (bytes with ones), so that an element no kernel wrote shows."""

    def fill(x):
        return x.fill_(float("nan") if x.is_floating_point() else 255)

    def poison(allocate):
        return lambda *args, **kwargs: fill(allocate(*args, **kwargs))

    monkeypatch.setattr(allocation, "empty_like", poison(allocation.empty_like))
    monkeypatch.setattr(allocation, "empty", poison(allocation.empty))


@pytest.fixture
def one_thread():
    """Networks this small run no faster on two threads, and far slower where other processes want the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def one_thread_in_processes():
    """One thread in the processes that are started, too, for all tests of a file."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(threads)
