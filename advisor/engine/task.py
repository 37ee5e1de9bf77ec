"""One order to a worker, and what it streams back; the tasks that open every command."""

import importlib
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin

import msgspec

from advisor.device.data import Environment
from advisor.training.data import Script, WorkloadFacts, WorkloadSpec
from advisor.training.script.arguments import Filling
from advisor.training.script.sight import ScriptSight

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


class EnvironmentTask(Task[Environment], frozen=True, kw_only=True):
    """Report the device and the software."""

    runs: ClassVar[str] = "advisor.engine.worker.opening:report_environment"

    device: str = "auto"
    #: Load this first: the file may choose what the device's name means. None loads none.
    after: WorkloadSpec | None = None


class InspectTask(WorkloadTask[WorkloadFacts], frozen=True, kw_only=True):
    """Load the model file, run one small training step, and report what was found."""

    runs: ClassVar[str] = "advisor.engine.worker.opening:report_workload"

    #: Only multiples of this size are run.
    batch_multiple: int = 1
    #: Report what can be told without a training step, for models that this machine cannot train.
    without_steps: bool = False


class ScriptTask(WorkloadTask[ScriptSight], frozen=True, kw_only=True):
    """Run the first steps of the user's script, and report what was seen."""

    runs: ClassVar[str] = "advisor.engine.worker.opening:report_script"

    filling: Filling
