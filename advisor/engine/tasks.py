"""What is asked of engine, what was seen of it, and what follows: the types."""

from advisor.device.data import EnvironmentTask
from advisor.loader.data import LoaderTask
from advisor.memory.data import MemoryTask
from advisor.noise.data import NoiseTask
from advisor.predict.data import TraceTask
from advisor.rate.data import LrRangeTask, TrialTask
from advisor.soak.data import SoakTask
from advisor.throughput.data import ThroughputTask
from advisor.training.data import InspectTask
from advisor.verify.data import VerificationTask

Task = (
    EnvironmentTask
    | InspectTask
    | MemoryTask
    | ThroughputTask
    | NoiseTask
    | TrialTask
    | TraceTask
    | SoakTask
    | LoaderTask
    | LrRangeTask
    | VerificationTask
)
