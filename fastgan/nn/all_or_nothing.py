"""A context manager that undoes the changes of a model if an error stops them half-way."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def all_or_nothing(model: nn.Module) -> Iterator[None]:
    """A context in which a model is changed in place: an exception undoes the changes and is raised again.

    Everything are the classes of the modules and of their hooks, and what the modules hold under which name and in
    which order: parameters, buffers, submodules, hooks, other attributes. The numbers in the tensors are not looked at.
    """
    before = [_Before(module) for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
    try:
        yield
    except BaseException:
        for each in before:
            each.put_back()
        raise


class _Before:
    """The attributes and class of a module before the changes."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.kind, self.attributes = module, type(module), dict(vars(module))
        containers: list[Any] = [value for value in self.attributes.values() if isinstance(value, (dict, set))]
        self.containers = [(container, container.copy()) for container in containers]
        hooks = [hook for container in containers if isinstance(container, dict) for hook in container.values()]
        self.hooks = [(hook, type(hook)) for hook in hooks if not isinstance(hook, (nn.Module, torch.Tensor))]
        # torch.nn.utils.parametrize puts a property for each tensor into the class that it has made for a module.
        self.names = set(vars(self.kind))

    def put_back(self) -> None:
        self.module.__class__ = self.kind
        attributes = vars(self.module)
        attributes.clear()
        attributes.update(self.attributes)
        for container, content in self.containers:
            container.clear()
            container.update(content)
        for hook, kind in self.hooks:
            if type(hook) is not kind:
                hook.__class__ = kind
        for name in set(vars(self.kind)) - self.names:
            delattr(self.kind, name)
