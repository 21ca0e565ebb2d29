"""`install` replaces and reports functions; `uninstall` leaves everything as it was."""

import importlib
import inspect
import random
import sys

import pytest
import torch

from fastgan.integrations import stylegan
from fastgan.integrations.stylegan import installation
from fastgan.integrations.stylegan.signatures import mismatch
from tests.stopping import calls_of, stops

from .conftest import CODE, is_codebase


def snapshot():
    """Every object that a module of a code base has under a name, and what importing works with."""
    names = {
        name: dict(vars(module))
        for name, module in sys.modules.items()
        if is_codebase(name) and inspect.ismodule(module)
    }
    return names, list(sys.meta_path)


def assert_unchanged(before):
    for then, now in zip(before[0].items(), snapshot()[0].items(), strict=True):
        assert then[0] == now[0]
        assert list(then[1]) == list(now[1])
        assert all(now[1][name] is value for name, value in then[1].items() if name != "calls")
    assert all(a is b for a, b in zip(before[1], sys.meta_path, strict=True))


@pytest.mark.parametrize(("name", "module"), [("nvidia", "training.networks_stylegan2"), ("rosinality", "model")])
def test_uninstall_restores_everything(name, module, codebase):
    codebase(name)
    importlib.import_module(module)
    before = snapshot()
    forward = sys.modules["op"].FusedLeakyReLU.forward if name == "rosinality" else None
    report = stylegan.install()
    assert snapshot()[0] != before[0]
    assert len(report.names("replaced")) >= 5
    report = stylegan.uninstall()
    assert_unchanged(before)
    assert {row.state for row in report} == {"restored"}
    if forward is not None:
        assert sys.modules["op"].FusedLeakyReLU.forward is forward


def test_uninstall_restores_what_was_imported_meanwhile(codebase):
    codebase("rosinality")
    path = list(sys.meta_path)
    with stylegan.installed():
        model = importlib.import_module("model")
        assert model.upfirdn2d.__wrapped__ is not None
    assert sys.meta_path == path
    assert model.upfirdn2d is sys.modules["op.upfirdn2d"].upfirdn2d
    assert not hasattr(model.upfirdn2d, "__wrapped__")


def test_names_bound_elsewhere_are_replaced_too(codebase):
    codebase("rosinality")
    model = importlib.import_module("model")
    layer = model.FusedLeakyReLU(3)
    report = stylegan.install()
    op = sys.modules["op"]
    assert model.upfirdn2d is op.upfirdn2d is sys.modules["op.upfirdn2d"].upfirdn2d
    row = report.rows["op.upfirdn2d.upfirdn2d"]
    assert set(row.places) == {"op.upfirdn2d", "model.upfirdn2d"}
    # Not only the name of the class: its instances and subclasses.
    sys.modules["op.fused_act"].calls.clear()
    layer(torch.ones(2, 3))
    assert sys.modules["op.fused_act"].calls == []


def test_the_original_that_compiles_is_never_run(codebase, compiling):
    codebase(compiling)
    with pytest.raises(Exception, match="missing"):
        importlib.import_module("op")
    for name in [name for name in sys.modules if is_codebase(name)]:
        del sys.modules[name]
    report = stylegan.install()
    model = importlib.import_module("model")
    generator = model.Generator(8, 6, 2, {4: 4, 8: 4})
    assert generator(torch.randn(2, 6)).shape == (2, 3, 8, 8)
    assert report.rows["op.upfirdn2d.upfirdn2d"].detail.startswith("provided")
    report = stylegan.uninstall()
    assert not [name for name in sys.modules if name.split(".")[0] == "op"]
    assert "model.upfirdn2d" in report.rows["op.upfirdn2d.upfirdn2d"].places
    assert report.rows["op.upfirdn2d.upfirdn2d"].state == "kept"
    with pytest.raises(Exception, match="missing"):
        importlib.import_module("op")


def test_the_package_may_be_kept_elsewhere(codebase, compiling, tmp_path):
    folder = tmp_path / "elsewhere" / "models" / "stylegan2"
    folder.parent.mkdir(parents=True)
    compiling.rename(folder)
    codebase(tmp_path / "elsewhere")
    stylegan.install(op="models.stylegan2.op")
    op = importlib.import_module("models.stylegan2.op")
    assert op.upfirdn2d(torch.ones(1, 1, 2, 2), torch.ones(2, 2)).tolist() == [[[[4.0]]]]
    stylegan.uninstall()
    assert "models.stylegan2.op" not in sys.modules
    assert "models.stylegan2" in sys.modules


def test_another_package_by_that_name_is_not_touched(codebase, tmp_path):
    (tmp_path / "op").mkdir()
    (tmp_path / "op" / "__init__.py").write_text("def upfirdn2d(anything):\n    return anything\n")
    (tmp_path / "op" / "upfirdn2d.py").write_text("def upfirdn2d(anything):\n    return anything\n")
    codebase(tmp_path)
    report = stylegan.install()
    op = importlib.import_module("op")
    assert op.upfirdn2d(3) == 3
    assert importlib.import_module("op.upfirdn2d").upfirdn2d(3) == 3
    row = report.rows["op.upfirdn2d.upfirdn2d"]
    assert row.state == "left"
    assert row.detail.startswith("another function by this name: argument 0 is anything, expected (input, kernel, up")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("op.fused_act")


def fork_of_bias_act(*defaults):
    def bias_act(x, b=None, dim=1, act="linear", alpha=None, gain=None, clamp=None, impl="cuda"):
        return x

    bias_act.__defaults__ = defaults
    return bias_act


def test_forks_that_changed_a_function_keep_theirs(codebase):
    codebase("nvidia")
    module = importlib.import_module("torch_utils.ops.bias_act")
    module.bias_act = changed = fork_of_bias_act(None, 1, "lrelu", None, None, None, "cuda")
    report = stylegan.install()
    assert module.bias_act is changed
    assert report.rows["torch_utils.ops.bias_act.bias_act"].detail == "its default of act is 'lrelu', expected 'linear'"


def test_differences_of_signatures():
    ours = fork_of_bias_act(None, 1, "linear", None, None, None, "cuda")
    assert mismatch(fork_of_bias_act(None, 1, "linear", None, None, None, "ref"), ours) is None
    assert "it has no argument clamp" in mismatch(lambda x, b, dim, act, alpha, gain: x, ours)
    assert "argument 1 is bias" in mismatch(lambda x, bias, dim, act, alpha, gain, clamp: x, ours)
    assert "behind a decorator" in mismatch(lambda *args, **kwargs: None, ours)


def test_what_is_not_ours_is_left_and_named(codebase):
    codebase("nvidia")
    importlib.import_module("torch_utils.ops.fma")
    report = stylegan.install()
    assert report.rows["torch_utils.ops.fma.fma"].state == "left"
    assert "torch_utils.ops.bias_act" in report.names("waiting")
    importlib.import_module("training.networks_stylegan2")
    assert "torch_utils.ops.bias_act" not in report.names("waiting")
    text = str(report)
    assert text.startswith("install: ")
    assert "left      torch_utils.ops.fma.fma" in text
    assert any(line.startswith("replaced  training.networks_stylegan2.modulated_conv2d") for line in text.splitlines())


def test_their_tables_and_sources_stay_theirs(codebase):
    codebase("nvidia")
    stylegan.install()
    module = importlib.import_module("torch_utils.ops.bias_act")
    assert "sine" in module.activation_funcs
    assert module.bias_act.__name__ == "bias_act"
    assert "def bias_act(x, b=None" in inspect.getsource(module)
    assert module.__spec__.loader is module.__loader__
    assert type(module.__loader__).__name__ == "SourceFileLoader"
    assert module.__file__ == str(CODE / "nvidia" / "torch_utils" / "ops" / "bias_act.py")
    assert list(inspect.signature(module.bias_act).parameters)[-1] == "impl"


def test_assignments_after_install_are_kept(codebase):
    codebase("nvidia")
    module = importlib.import_module("torch_utils.ops.bias_act")
    stylegan.install()
    module.bias_act = other = fork_of_bias_act()
    report = stylegan.uninstall()
    assert module.bias_act is other
    assert report.rows["torch_utils.ops.bias_act.bias_act"].state == "kept"


def test_install_twice_and_uninstall_without(codebase):
    with pytest.raises(RuntimeError, match="uninstall: nothing is installed"):
        stylegan.uninstall()
    with pytest.raises(RuntimeError, match="install: fastgan's ops are installed already"), stylegan.installed():
        stylegan.install()
    assert installation._active is None
    with stylegan.installed():
        stylegan.uninstall()
    with pytest.raises(TypeError, match="install: op is int, expected the name of a package"):
        stylegan.install(3)


@pytest.mark.parametrize(("name", "module"), [("nvidia", "training.networks_stylegan2"), ("rosinality", "model")])
def test_an_exception_anywhere_leaves_nothing_installed_or_everything(name, module, codebase, seed):
    rng = random.Random(seed)
    codebase(name)
    importlib.import_module(module)
    before = snapshot()
    total = calls_of(stylegan.install)
    of_uninstall = calls_of(stylegan.uninstall)
    for _ in range(8):
        if stops(stylegan.install, after=rng.randrange(total)):
            assert_unchanged(before)
            stylegan.install()
        if stops(stylegan.uninstall, after=rng.randrange(of_uninstall)):
            report = stylegan.uninstall()  # goes on where it was stopped
            assert {row.state for row in report} == {"restored"}
        assert_unchanged(before)


def test_a_module_that_nobody_may_import_is_waited_for(codebase, monkeypatch):
    codebase("rosinality")
    monkeypatch.setitem(sys.modules, "op.upfirdn2d", None)
    assert "op.upfirdn2d" in stylegan.install().names("waiting")
