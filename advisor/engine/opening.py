"""The tasks that open every command: what machine this is, and what the user's file is."""

from typing import ClassVar

from advisor.device.data import Environment
from advisor.engine.task import Task, WorkloadTask
from advisor.training.data import WorkloadFacts, WorkloadSpec
from advisor.training.script.arguments import Filling
from advisor.training.script.sight import ScriptSight


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
