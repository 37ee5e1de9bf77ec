"""Import the user's file, and call its functions with the settings from the command line."""

import ast
import importlib
import importlib.util
import inspect
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from advisor.errors import UsageError, WorkloadError, note_place, shorten
from advisor.training.data import Target
from advisor.training.device_failure import is_out_of_memory
from advisor.training.model_file.discovery import discover
from advisor.training.model_file.foreign import count_places, name_of, parameters_of, running

_AS_A_MODULE = (
    "A file of a package is named as a module, from the folder above the package: bsadvisor probe "
    "package.module."
)
_WITHOUT_ARGUMENTS = (
    "sys.argv holds the file's name alone: give the arguments defaults, and put what ends the "
    'script under if __name__ == "__main__":.'
)
_SIGNATURES = (
    "The functions of a model file: make_optimizer(model), loss_fn(model, batch), "
    "make_batch(batch_size), collate_fn(samples), make_scheduler(optimizer, total_steps), "
    "make_step(batch_size, device)."
)
#: Packages that cannot be loaded twice.
_IN_USE = {__name__.partition(".")[0], "torch", "numpy"}
_CLOCKS = (time.perf_counter, time.monotonic)
_MODULE_NAME = "bsadvisor_model_file"


def load_module(target: Target) -> ModuleType:
    """Return the user's module, as a script beside it would see it, or raise WorkloadError."""
    folders, most_recursion = [*sys.path], sys.getrecursionlimit()
    try:
        module = _import(target)
    except SyntaxError as error:
        place = f"{error.filename}:{error.lineno}" if error.filename else target.text
        raise WorkloadError(
            f"{place}: {error.msg}",
            next_step="Correct the syntax; python must be able to import the file.",
        ) from error
    except ModuleNotFoundError as error:
        what = f"{error.name!r}, which is not installed" if error.name else f"in vain: {error}"
        raise WorkloadError(
            f"{target.text} imports {what}",
            next_step=f"Install it in this environment ({sys.executable} -m pip install ...).",
        ) from error
    except ImportError as error:
        if "relative import" in str(error):
            note_place(error, "the import of the file", _AS_A_MODULE)
        raise
    except SystemExit as error:
        note_place(error, "the import of the file", _WITHOUT_ARGUMENTS)
        raise
    if (time.perf_counter, time.monotonic) != _CLOCKS:
        raise WorkloadError(
            "the file replaces time.perf_counter or time.monotonic, by which steps are timed",
            next_step="Leave the clocks as they are where the file is imported.",
        )
    # What the import took away is given back: imports and recursion of torch's rest on it.
    sys.path += [folder for folder in folders if folder not in sys.path]
    if sys.getrecursionlimit() < most_recursion:
        sys.setrecursionlimit(most_recursion)
    return module


def _import(target: Target) -> ModuleType:
    if target.path is None:
        sys.path.insert(0, str(Path.cwd()))
        sys.argv = [str(target.module)]
        return importlib.import_module(str(target.module))
    path = Path(target.path).resolve()
    # The file's folder, as python FILE has it, then the working directory, as python -m has it.
    sys.path[:0] = [str(path.parent), str(Path.cwd())]
    sys.argv = [target.path]
    _forget_shadowed(sys.path[:2])
    specification = importlib.util.spec_from_file_location(_MODULE_NAME, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[_MODULE_NAME] = module  # dataclasses and pickling look the module up there
    specification.loader.exec_module(module)
    return module


def _forget_shadowed(folders: Sequence[str]) -> None:
    """Have the user's own modules found where a package of that name was loaded by others.

    A project may well have folders that are called `datasets` or `models`.
    """
    installed = tuple(sysconfig.get_path(key) for key in ("purelib", "platlib"))
    for name in {each.partition(".")[0] for each in sys.modules} - _IN_USE:
        file = getattr(sys.modules.get(name), "__file__", None) or ""
        files = (f"{name}.py",), (name, "__init__.py")
        own = [Path(folder, *parts) for folder in folders for parts in files]
        if file.startswith(installed) and any(path.is_file() for path in own):
            for module in [each for each in sys.modules if each.partition(".")[0] == name]:
                del sys.modules[module]


class ModelFile:
    """What the user's file names, called with the settings of the command line (`--set`)."""

    def __init__(self, target: Target, settings: dict[str, str]) -> None:
        self.target, self._values = target, settings
        self.names = discover(load_module(target), target.name)
        self._made: set[str] = set()
        self._used: set[str] = set()
        self._offered: set[str] = set()

    def make(self, field: str, *arguments: Any) -> Any:
        """Return what the function makes that `Names` has under the field; else WorkloadError.

        It may use up what it makes it of, as a configuration that it fills in: where a further call
        fails, the file is read anew.
        """
        function = getattr(self.names, field)
        try:
            made = self.call(function, *arguments)
        except Exception as error:
            if field not in self._made or is_out_of_memory(error):
                raise
            failed = error
        else:
            self._made.add(field)
            return made
        try:
            names = discover(load_module(self.target), self.target.name)
            return self.call(getattr(names, field), *arguments)
        except Exception as second:  # noqa: BLE001 - the first failure is the one to tell
            name = name_of(function)
            raise WorkloadError(
                f"{name} works once and fails when it is called again "
                f"({type(second).__name__}: {shorten(second)})",
                next_step=f"Have {name} leave what it makes it of as it was: give it a copy, as "
                "copy.deepcopy(config).",
            ) from failed

    def call(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Return `function(*arguments, **settings)` with the settings it has parameters for."""
        bound = self.bind(function, positional=len(arguments))
        with running(name_of(function)):
            return bound(*arguments)

    def bind(self, function: Callable[..., Any], *, positional: int) -> Callable[..., Any]:
        """Return the function with its settings, for `positional` arguments; or WorkloadError."""
        parameters = parameters_of(function)
        if parameters is None:
            return function
        extra = {
            name: parameter
            for name, parameter in list(parameters.items())[positional:]
            if parameter.kind in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}
        }
        chosen = {
            name: _convert(self._values[name], parameter)
            for name, parameter in extra.items()
            if name in self._values
        }
        self._offered |= extra.keys()
        self._used |= chosen.keys()
        missing = [
            name
            for name, parameter in extra.items()
            if parameter.default is parameter.empty and name not in chosen
        ]
        if missing:
            problem = f"needs {', '.join(missing)}, which nothing gives"
            next_step = "Give it a default in the file, or a value with "
            next_step += " ".join(f"--set {name}=..." for name in missing)
        elif count_places(function) < positional:
            problem = f"takes {count_places(function)} arguments, and is given {positional}"
            next_step = _SIGNATURES
        else:
            return partial(function, **chosen) if chosen else function
        raise WorkloadError(f"{name_of(function)} {problem}", next_step=next_step)

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
