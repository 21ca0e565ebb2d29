"""Tasks of the user's own: a function by its place, as in mypackage.mytask:make."""

import importlib
import os
import sys
from typing import Any, Literal

from pydantic import Field

from fastgan.errors import UserError, one_line
from fastgan.tasks import Task
from fastgan.train.sections import Section


class PythonSection(Section):
    """A task that a function makes. Building it imports and runs that code."""

    kind: Literal["python"]
    """Which task this is."""
    function: str
    """package.module:function, found as Python finds modules, in the present folder too."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """What it is called with, by name."""

    def build(self) -> Task:
        """What the function returns.

        Raises:
            UserError: there is no such module or function, it raised one, or it returned something else than a Task.
        """
        module, colon, name = self.function.partition(":")
        if not colon or not module or not name.isidentifier():
            raise UserError(f"task.function is {self.function!r}, expected package.module:function")
        made = self._imported(module, name)(**self.arguments)
        if not isinstance(made, Task):
            raise UserError(f"{self.function} returned {type(made).__name__}, expected a fastgan.tasks.Task")
        return made

    def _imported(self, module: str, name: str) -> Any:
        here = os.getcwd()
        sys.path.insert(0, here)
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not module.startswith(error.name):
                raise
            raise UserError(f"task.function is {self.function!r}: {one_line(error)}") from None
        finally:
            sys.path.remove(here)
        function = getattr(found, name, None)
        if not callable(function):
            raise UserError(f"task.function is {self.function!r}, but {module} has no function {name}")
        return function
