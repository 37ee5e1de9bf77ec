"""What runs the opening tasks."""

from advisor.device.data import Environment
from advisor.device.measure import see_environment
from advisor.engine.task import EnvironmentTask, InspectTask, ScriptTask
from advisor.engine.worker.emitter import Emit, Emitter
from advisor.training.data import WorkloadFacts
from advisor.training.devices import resolve_device
from advisor.training.inspection import inspect_workload
from advisor.training.model_file.workload import Workload
from advisor.training.script.inspection import see_script


def report_environment(task: EnvironmentTask, emit: Emit[Environment]) -> None:
    """Emit one Environment."""
    if task.after is not None:
        Workload(task.after)
    emit(see_environment(resolve_device(task.device)))


def report_workload(task: InspectTask, emit: Emit[WorkloadFacts]) -> None:
    """Emit one WorkloadFacts."""
    emit(
        inspect_workload(
            task.workload, batch_multiple=task.batch_multiple, without_steps=task.without_steps
        )
    )


def report_script(task: ScriptTask, emit: Emitter) -> None:
    """Emit one ScriptSight, and end the process."""
    see_script(task.workload, task.filling, emit)
