"""One order to a worker, and what it streams back."""

import importlib
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin

import msgspec

from advisor.training.data import Script, WorkloadSpec

T = TypeVar("T")


class Task(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What a worker is asked to do; T is the type of each result that it streams."""

    #: `module:function` of what runs it, imported by its worker alone; it takes the task and a
    #: function that sends a result.
    runs: ClassVar[str]

    @classmethod
    def result_type(cls) -> type[T]:
        """Return T."""
        bases: tuple[Any, ...] = cls.__orig_bases__  # type: ignore[attr-defined]
        result: type[T] = next(get_args(base)[0] for base in bases if get_origin(base))
        return result

    @property
    def script(self) -> Script | None:
        """The user's own script, where the task runs that."""
        return None


class WorkloadTask(Task[T], Generic[T], frozen=True, kw_only=True):
    """A task on the user's code."""

    #: What runs it on the user's own script, where that is not the same.
    runs_script: ClassVar[str] = ""
    #: `module:function` of what makes one rank's results of those of all, by rank; without one the
    #: first rank's stand.
    merges_ranks: ClassVar[str] = ""

    workload: WorkloadSpec

    @property
    def script(self) -> Script | None:
        """The user's own script, where the task runs that."""
        return self.workload.script


def find_function(name: str) -> Callable[..., Any]:
    """Return the function that `module:function` names."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found
