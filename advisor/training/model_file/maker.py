"""Functions of the model file that a script calls once, called as often as the tool needs."""

from typing import Any

from advisor.errors import WorkloadError, shorten
from advisor.training.data import Target
from advisor.training.model_file.discovery import Names, discover
from advisor.training.model_file.foreign import name_of
from advisor.training.model_file.loading import Settings, load_module
from advisor.training.out_of_memory import is_out_of_memory


class Maker:
    """Makes models, optimizers and datasets.

    A function may use up what it makes them of, as a configuration that it fills in: where a
    further call fails, the file is read anew.
    """

    def __init__(self, target: Target, names: Names, settings: Settings) -> None:
        self._target = target
        self._names = names
        self._settings = settings
        self._made: set[str] = set()

    def make(self, field: str, *arguments: Any) -> Any:
        """Return what the function makes that `Names` has under the field.

        Raises:
            WorkloadError: It works once in a process, however often the file is read.
        """
        function = getattr(self._names, field)
        try:
            made = self._settings.call(function, *arguments)
        except Exception as error:
            if field not in self._made or is_out_of_memory(error):
                raise
            return self._make_anew(field, arguments, error)
        self._made.add(field)
        return made

    def _make_anew(self, field: str, arguments: tuple[Any, ...], error: Exception) -> Any:
        try:
            names = discover(load_module(self._target), self._target.name)
            return self._settings.call(getattr(names, field), *arguments)
        except Exception as second:  # noqa: BLE001 - the first failure is the one to tell
            name = name_of(getattr(self._names, field))
            raise WorkloadError(
                f"{name} works once and fails when it is called again "
                f"({type(second).__name__}: {shorten(second)})",
                next_step=f"Have {name} leave what it makes it of as it was: give it a copy, as "
                "copy.deepcopy(config).",
            ) from error
