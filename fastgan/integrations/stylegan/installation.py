"""`install` and `uninstall`: replace an imported code base's functions by fastgan's ops, and put them back."""

import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from fastgan.integrations.stylegan import nvidia_ops, rosinality_ops
from fastgan.integrations.stylegan.fallback import Fallback
from fastgan.integrations.stylegan.finder import OriginalFinder
from fastgan.integrations.stylegan.report import InstallReport, InstallRow
from fastgan.integrations.stylegan.signatures import mismatch

_active: "_Installation | None" = None


def install(op: str = "op") -> InstallReport:
    """Runs StyleGAN2 code of NVIDIA's or rosinality's on fastgan's ops: no compile step, on a CPU too.

        from fastgan.integrations import stylegan
        print(stylegan.install())       # before or after the code base is imported

    It replaces, by name, the functions of `torch_utils.ops` (stylegan2-ada-pytorch, stylegan3), `modulated_conv2d` of
    `training.networks` and `training.networks_stylegan2`, and those of rosinality's package `op`. In modules that are
    imported the functions are replaced wherever a module has bound them by a name; others are changed when they are
    imported. Rosinality's `fused_act` and `upfirdn2d`, which compile while they are imported, are not run at all then.

    A function whose arguments are not those that this one knows is left, and the report says why. A call that our op
    does not take runs the original and warns, once; where the original was never imported it raises ValueError.

    Args:
        op: the full name of rosinality's package, which copies of it keep elsewhere, as in `models.stylegan2.op`.

    Returns:
        The report, whose `str` is a table. It grows while further modules are imported.

    Raises:
        TypeError: op is not a string.
        RuntimeError: it is installed already.
        Exception: what looking at a module raised. Nothing is installed then.
    """
    global _active
    if not isinstance(op, str):
        raise TypeError(f"install: op is {type(op).__name__}, expected the name of a package")
    if _active is not None:
        raise RuntimeError("install: fastgan's ops are installed already; call uninstall() first")
    _active = _Installation(op)
    return _active.report


def uninstall() -> InstallReport:
    """Undoes `install`: every name has again the object that it had, and the next import runs the original modules.

    Returns:
        The report. What is left (`kept`) are names bound to functions that stood in for modules never imported, and
        names to which something else was assigned meanwhile.

    Raises:
        RuntimeError: nothing is installed.
    """
    global _active
    if _active is None:
        raise RuntimeError("uninstall: nothing is installed; call install() first")
    report = _active.undo()
    _active = None
    return report


@contextmanager
def installed(op: str = "op") -> Iterator[InstallReport]:
    """`with installed() as report:` installs for the duration of a block."""
    report = install(op)
    try:
        yield report
    finally:
        if _active is not None and _active.report is report:
            uninstall()


class _Installation:
    """The replacements of one `install`, and its hook for later imports."""

    def __init__(self, op: str) -> None:
        self.op = op
        self.report = InstallReport("install")
        self.modules: Mapping[str, Mapping[str, Any]] = {**nvidia_ops.MODULES, **rosinality_ops.modules(op)}
        self.replaced: list[tuple[str, Any, Any]] = []  # full name, original and replacement
        self.methods: list[tuple[str, type, str, Any, Any]] = []  # full name, class, attribute, original, replacement
        self.provided: dict[str, ModuleType] = {}
        self.finder = OriginalFinder(frozenset(self.modules), rosinality_ops.provided(op), self.imported)
        try:
            for name in self.modules:
                module = sys.modules.get(name)  # None where somebody forbids the import
                if module is None:
                    self.report.add(InstallRow(name, "waiting", "for its import"))
                else:
                    self.replace_in(module)
            sys.meta_path.insert(0, self.finder)
        except BaseException:
            self.undo()
            raise

    def imported(self, module: ModuleType, provided: bool) -> None:
        """The hook: a module was imported after `install`."""
        name = module.__name__
        self.report.rows.pop(name, None)
        if not provided:
            self.replace_in(module)
            return
        self.provided[name] = module
        for attribute in self.finder.provided[name]:
            self.report.add(
                InstallRow(f"{name}.{attribute}", "replaced", "provided: importing the original would compile it")
            )

    def replace_in(self, module: ModuleType) -> None:
        """Replaces what a module defines, there and wherever else it is bound."""
        rebound: dict[int, tuple[Any, Any]] = {}  # id of the original -> original and replacement
        for attribute, make in self.modules[module.__name__].items():
            owner: Any = module
            *path, last = attribute.split(".")
            for part in path:
                owner = getattr(owner, part, None)
            original = vars(owner).get(last) if owner is not None else None
            if original is None:
                continue
            full = f"{module.__name__}.{attribute}"
            if isinstance(make, str):
                self.report.add(InstallRow(full, "left", make))
                continue
            replacement, reason = self.replacement(full, original, make)
            if reason:
                self.report.add(InstallRow(full, "left", reason))
            elif isinstance(owner, type):
                self.methods.append((full, owner, last, original, replacement))
                setattr(owner, last, replacement)
                self.report.add(InstallRow(full, "replaced", "by fastgan.ops"))
            else:
                self.replaced.append((full, original, replacement))
                rebound[id(original)] = (original, replacement)
        places = _rebind(rebound)
        for full, original, _ in self.replaced:
            if id(original) in rebound:
                also = tuple(place for place in places[id(original)] if place != full)
                self.report.add(InstallRow(full, "replaced", "by fastgan.ops", also))

    @staticmethod
    def replacement(full: str, original: Any, make: Callable[[Fallback], Callable[..., Any]]) -> tuple[Any, str | None]:
        if not inspect.isfunction(original):
            return None, f"it is {type(original).__name__}, expected a function"
        replacement = make(Fallback(full, original))
        reason = mismatch(original, replacement)
        return functools.wraps(original)(replacement), reason

    def undo(self) -> InstallReport:
        """Undoes the installation; also one that stopped half-way."""
        if self.finder in sys.meta_path:
            sys.meta_path.remove(self.finder)
        report = InstallReport("uninstall")
        exchanges = {id(new): (new, original) for _, original, new in self.replaced}
        exchanges |= {id(original): (original, original) for _, original, _ in self.replaced}
        places = _rebind(exchanges)
        for full, original, replacement in self.replaced:
            found = places[id(replacement)]
            if full in found or full in places[id(original)]:
                report.add(InstallRow(full, "restored", "", tuple(place for place in found if place != full)))
            else:
                report.add(InstallRow(full, "kept", "something else was assigned to it", tuple(found)))
        for full, owner, name, original, replacement in self.methods:
            if vars(owner).get(name) in (replacement, original):
                setattr(owner, name, original)
                report.add(InstallRow(full, "restored"))
            else:
                report.add(InstallRow(full, "kept", "something else was assigned to it"))
        self.forget_provided(report)
        return report

    def forget_provided(self, report: InstallReport) -> None:
        """Removes the provided modules from sys.modules: the next import runs the originals."""
        if not self.provided:
            return
        for name in [name for name in sys.modules if name == self.op or name.startswith(self.op + ".")]:
            del sys.modules[name]
        objects = [(f"{name}.{key}", vars(module)[key]) for name, module in self.provided.items()
                   for key in self.finder.provided[name]]  # fmt: skip
        places = _rebind({id(value): (value, value) for _, value in objects})
        for full, value in objects:
            also = tuple(places[id(value)])
            what = "forgotten: the next import runs the original" + ("; still bound" if also else "")
            report.add(InstallRow(full, "kept" if also else "restored", what, also))


def _rebind(exchanges: dict[int, tuple[Any, Any]]) -> dict[int, list[str]]:
    """Binds other objects to the names of modules: id of the old one -> old and new. Returns where they were found."""
    places: dict[int, list[str]] = {key: [] for key in exchanges}
    for module_name, module in list(sys.modules.items()):
        namespace = getattr(module, "__dict__", None)
        if not isinstance(module, ModuleType) or namespace is None or module_name.startswith("fastgan."):
            continue
        for name, value in list(namespace.items()):
            exchange = exchanges.get(id(value))
            if exchange is not None:
                namespace[name] = exchange[1]
                places[id(value)].append(f"{module_name}.{name}")
    return places
