"""Import the user's file, and call its functions with the settings from the command line."""

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from advisor.errors import UsageError, WorkloadError
from advisor.training.data import Target

_MODULE_NAME = "bsadvisor_model_file"


def load_module(target: Target) -> ModuleType:
    """Return the user's module, imported as a script beside it would see it.

    Raises:
        WorkloadError: The file does not parse, or an import in it fails.
    """
    try:
        if target.path is None:
            sys.path.insert(0, str(Path.cwd()))
            return importlib.import_module(str(target.module))
        path = Path(target.path).resolve()
        sys.path.insert(0, str(path.parent))
        specification = importlib.util.spec_from_file_location(_MODULE_NAME, path)
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        sys.modules[_MODULE_NAME] = module  # dataclasses and pickling look the module up there
        specification.loader.exec_module(module)
    except SyntaxError as error:
        raise WorkloadError(
            f"{error.filename}:{error.lineno}: {error.msg}",
            next_step="Correct the syntax; python must be able to import the file.",
        ) from error
    except ModuleNotFoundError as error:
        what = f"{error.name!r}, which is not installed" if error.name else f"in vain: {error}"
        raise WorkloadError(
            f"{target.text} imports {what}",
            next_step=f"Install it in this environment ({sys.executable} -m pip install ...).",
        ) from error
    return module


class Settings:
    """The `--set key=value` pairs, handed to every function that has a parameter of that name."""

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values
        self._used: set[str] = set()
        self._offered: set[str] = set()

    def call(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Return `function(*arguments, **settings)` with the settings it has parameters for."""
        return self.bind(function, positional=len(arguments))(*arguments)

    def bind(self, function: Callable[..., Any], *, positional: int) -> Callable[..., Any]:
        """Return the function with its settings filled in, for `positional` further arguments."""
        try:
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):  # builtins without a signature take no settings
            return function
        extra = [
            parameter
            for parameter in list(parameters.values())[positional:]
            if parameter.kind in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}
        ]
        self._offered |= {parameter.name for parameter in extra}
        chosen = {
            parameter.name: _convert(self._values[parameter.name], parameter)
            for parameter in extra
            if parameter.name in self._values
        }
        self._used |= set(chosen)
        return partial(function, **chosen) if chosen else function

    def check_all_used(self) -> None:
        """Raise UsageError where a setting matched no parameter of any function called so far."""
        unknown = sorted(set(self._values) - self._used)
        if unknown:
            offered = ", ".join(sorted(self._offered)) or "none"
            raise UsageError(
                f"--set {unknown[0]}: no function of the model file has such a parameter",
                next_step=f"Parameters that can be set: {offered}.",
            )


def _convert(text: str, parameter: inspect.Parameter) -> object:
    """Return `text` as the type of the parameter's annotation or default, else as a literal."""
    wanted = parameter.annotation
    if wanted in (inspect.Parameter.empty, None) and parameter.default is not None:
        wanted = type(parameter.default)
    name = wanted if isinstance(wanted, str) else getattr(wanted, "__name__", "")
    if name == "str":
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = {"true": True, "false": False, "none": None}.get(text.lower(), text)
    if name == "float" and isinstance(value, int):
        return float(value)
    if name in {"int", "float", "bool"} and type(value).__name__ != name:
        raise UsageError(
            f"--set {parameter.name}={text}: {name} expected",
            next_step=f"Give {parameter.name} a value of type {name}.",
        )
    return value
