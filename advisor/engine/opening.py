"""The two tasks that open every command: what machine this is, and what the model file is."""

from typing import ClassVar

from advisor.device.data import Environment
from advisor.engine.task import Task, WorkloadTask
from advisor.training.data import WorkloadFacts


class EnvironmentTask(Task[Environment], frozen=True, kw_only=True):
    """Report the device and the software, without touching the user's file."""

    runs: ClassVar[str] = "advisor.engine.worker.opening:report_environment"

    device: str = "auto"


class InspectTask(WorkloadTask[WorkloadFacts], frozen=True, kw_only=True):
    """Load the model file, run one small training step, and report what was found.

    Attributes:
        batch_multiple: Only multiples of this size are run.
        without_steps: Report what can be told without a training step, for models that this
            machine cannot train.
    """

    runs: ClassVar[str] = "advisor.engine.worker.opening:report_workload"

    batch_multiple: int = 1
    without_steps: bool = False
