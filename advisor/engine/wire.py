"""How the parent and a worker talk: one order in, then one JSON line for each message out.

The messages travel over a connection of their own; stdout and stderr belong to the user's code.
"""

from typing import Literal

import msgspec

from advisor.device.data import Environment, EnvironmentTask
from advisor.engine.tasks import Task
from advisor.errors import AdvisorError, DeviceError, InternalError, UsageError, WorkloadError
from advisor.loader.data import LoaderTask, LoaderTiming
from advisor.memory.data import MemoryTask, Probe
from advisor.noise.data import NoiseBatches, NoiseTask
from advisor.predict.data import TraceTask
from advisor.predict.memory_trace import MemoryTrace
from advisor.rate.data import LrRangeCurve, LrRangeTask, TrialBranch, TrialTask
from advisor.soak.data import Soak, SoakTask
from advisor.throughput.data import ThroughputTask
from advisor.training.data import InspectTask, WorkloadFacts
from advisor.verify.data import VerificationBranch, VerificationTask

FailureKind = Literal["user", "usage", "device", "internal", "unforkable"]

#: The type of the results that each task streams back.
RESULT_TYPES: dict[type, type] = {
    EnvironmentTask: Environment,
    InspectTask: WorkloadFacts,
    MemoryTask: Probe,
    ThroughputTask: Probe,
    NoiseTask: NoiseBatches,
    TrialTask: TrialBranch,
    TraceTask: MemoryTrace,
    SoakTask: Soak,
    LoaderTask: LoaderTiming,
    LrRangeTask: LrRangeCurve,
    VerificationTask: VerificationBranch,
}


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """The one line a worker reads.

    Attributes:
        crash_path: File into which the worker writes where its Python code stood when it crashed or
            was asked; outlives the worker.
    """

    task: Task
    crash_path: str


class Result(msgspec.Struct, frozen=True, kw_only=True, tag="result"):
    """A measurement, of the type that `RESULT_TYPES` names for the task."""

    body: msgspec.Raw


class Failure(msgspec.Struct, frozen=True, kw_only=True, tag="failure"):
    """The worker gave up.

    Attributes:
        traceback: The user's own traceback, from the first line of the user's code; for an internal
            failure the whole one.
    """

    kind: FailureKind
    message: str
    next_step: str | None = None
    traceback: str | None = None


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """The task is complete; a stream that ends without it was cut off."""


Message = Result | Failure | Done


def error_from(failure: Failure) -> AdvisorError:
    """Return the exception that stands for a worker's failure in the parent."""
    error_type: type[AdvisorError]
    match failure.kind:
        case "user":
            error_type = WorkloadError
        case "usage":
            error_type = UsageError
        case "device":
            error_type = DeviceError
        case "internal" | "unforkable":
            error_type = InternalError
    return error_type(failure.message, next_step=failure.next_step, traceback=failure.traceback)
