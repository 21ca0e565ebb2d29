"""An import hook for modules of a code base that are imported after `install`.

Most modules are imported as ever, and changed when their code has run: what else is in them stays theirs. Two of
rosinality's compile CUDA code while they are imported; where their source shows it, a module of the same name with our
functions is imported in their place, and their code never runs.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import InspectLoader, Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

COMPILES = "cpp_extension"
"""The source of a module that compiles while it is imported names torch.utils.cpp_extension."""


class OriginalFinder(MetaPathFinder):
    """Finds the modules that `install` waits for.

    Args:
        names: full names of the modules.
        provided: the contents of those to be provided where importing them would compile.
        imported: called with each module when it has been imported, and whether it was provided.
    """

    def __init__(
        self,
        names: frozenset[str],
        provided: Mapping[str, Mapping[str, Any]],
        imported: Callable[[ModuleType, bool], None],
    ) -> None:
        self.names, self.provided, self.imported = names, provided, imported

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.names:
            return None
        spec = self._found_by_others(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        if fullname in self.provided and _compiles(spec.loader, fullname):
            return ModuleSpec(fullname, _Providing(self.provided[fullname], self.imported), origin="fastgan")
        spec.loader = _Watching(spec.loader, self.imported)
        return spec

    def _found_by_others(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        specs = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self)
        return next((spec for spec in specs if spec is not None), None)


def _compiles(loader: Loader, fullname: str) -> bool:
    source = loader.get_source(fullname) if isinstance(loader, InspectLoader) else None
    return source is not None and COMPILES in source


class _Watching(Loader):
    """A loader that runs another one and then a callback."""

    def __init__(self, loader: Loader, imported: Callable[[ModuleType, bool], None]) -> None:
        self.loader, self.imported = loader, imported

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module sees its own loader, as without us: inspect.getsource and importlib.reload ask for it.
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        self.imported(module, False)


class _Providing(Loader):
    """A loader that makes a module of given attributes."""

    def __init__(self, contents: Mapping[str, Any], imported: Callable[[ModuleType, bool], None]) -> None:
        self.contents, self.imported = contents, imported

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__doc__ = "Provided by fastgan.integrations.stylegan: importing the original would compile it."
        vars(module).update(self.contents)
        self.imported(module, True)
