"""The registry: every kind of record, and its questions in the order in which they run."""

from pathlib import Path

from advisor.advice.plan import find_advised_way
from advisor.advice.question import BATCHES, PLANS
from advisor.advice.question import QUESTION as ADVICE
from advisor.advice.schedules import find_open_growth
from advisor.advice.tell import draw_up_screen, head_run, tell_so_far
from advisor.cards.question import KIND as PREDICTION
from advisor.engine.document import read_record
from advisor.engine.question import Kind
from advisor.engine.record import Record, RecordKind
from advisor.errors import InconclusiveError, UsageError
from advisor.gate.stage import BASELINE, CHECK
from advisor.growth.question import make_question as make_growth
from advisor.loader.question import QUESTION as LOADER
from advisor.memory.data import PROBES
from advisor.memory.question import QUESTION as MEMORY
from advisor.memory_savings.question import QUESTION as MEMORY_SAVINGS
from advisor.noise.data import NOISE_BATCHES
from advisor.noise.question import QUESTION as NOISE
from advisor.noise_floor.question import KIND as SELF_COMPARISON
from advisor.ranks.question import QUESTION as RANKS
from advisor.rate.range_stage import KIND as LR_RANGE
from advisor.sharpness.question import QUESTION as SHARPNESS
from advisor.soak.question import make_question as make_soak
from advisor.throughput.stage import QUESTION as THROUGHPUT
from advisor.throughput.stage import SPEED
from advisor.variants.stage import QUESTION as VARIANTS
from advisor.verify.plan import VERIFICATION_TOPIC
from advisor.verify.stage import QUESTION as VERIFICATION


def _is_worth_telling(record: Record, error: BaseException) -> bool:
    """Return whether there is a result; beside a failure, memory alone is half of one."""
    probes, noise = record.all(PROBES), record.all(NOISE_BATCHES)
    if isinstance(error, KeyboardInterrupt | InconclusiveError):
        return bool(probes or noise)
    return bool(noise) or any(probe.stage == "throughput" for probe in probes)


_GROWTH = make_growth(lambda run: find_open_growth(run.conclusions))
_SOAK = make_soak(lambda run: find_advised_way(run.conclusions))

RUN = Kind(
    name="run",
    noun="run",
    command="probe",
    questions=(
        MEMORY,
        THROUGHPUT,
        NOISE,
        SHARPNESS,
        LOADER,  # what a step takes in the user's loop decides
        SPEED,
        _GROWTH,  # begins once the race is over
        ADVICE,  # takes nearly all the time left
        _SOAK,
        RANKS,
        MEMORY_SAVINGS,
        VARIANTS,  # each has a promised share, and what the others left
        PLANS,
        VERIFICATION,
    ),
    told=(
        MEMORY,
        THROUGHPUT,
        BATCHES,
        NOISE,
        SHARPNESS,
        LOADER,
        SPEED,
        RANKS,
        VARIANTS,
        _SOAK,
        ADVICE,
        PLANS,
        VERIFICATION,
        MEMORY_SAVINGS,
    ),
    headline=head_run,
    screen=lambda found: draw_up_screen(
        found, is_verified=found.of(VERIFICATION_TOPIC) is not None
    ),
    so_far=tell_so_far,
    is_worth_telling=_is_worth_telling,
)

KINDS: dict[RecordKind, Kind] = {
    kind.name: kind for kind in (RUN, PREDICTION, LR_RANGE, SELF_COMPARISON, BASELINE, CHECK)
}


def read_run(path: Path) -> Record:
    """Return the record of the run stored in `path`.

    Raises:
        UsageError: It is not there, is none, or cannot be read by this version.
    """
    kind, record = read_record(path, KINDS)
    if kind is not RUN:
        raise UsageError(
            f"{path} is a {kind.noun}, not a run",
            next_step="Write a run with: bsadvisor probe MODEL --json FILE",
        )
    return record
