"""`noise-floor`: the same model timed again and again, as the one question of its own record."""

from advisor.engine.ends import WorkerTimeoutError
from advisor.engine.question import Kind, Question
from advisor.engine.run import Run
from advisor.errors import InconclusiveError
from advisor.memory.data import PROBES
from advisor.noise_floor.data import MICRO_BATCH_SIZE
from advisor.noise_floor.plan import NOISE_FLOOR, PARTS
from advisor.noise_floor.tell import head_noise_floor, tell_noise_floor
from advisor.throughput.data import TELEMETRY
from advisor.throughput.stage import make_task, run_session

#: Sessions: fewer tell no spread, more tell nothing new.
_LEAST_SESSIONS, _MOST_SESSIONS = 4, 20
#: Timed blocks of each session.
_ROUNDS = 3


def run_noise_floor(run: Run) -> None:
    """Time one session after another as long as the budget lasts; InconclusiveError under four.

    One that takes longer than what is left is dropped; where it is the first, the model may hang.
    """
    size = run.record.get(MICRO_BATCH_SIZE) or run.facts.usual_batch_size
    run.set(MICRO_BATCH_SIZE, size)
    for session in range(_MOST_SESSIONS):
        if run.is_spent:
            break
        run.progress.stage(f"session {session + 1} of {_MOST_SESSIONS}", left_s=run.left_s)
        task = make_task(run, micro_batch_sizes=(size,), session=session, rounds=_ROUNDS)
        try:
            run_session(run, (task,))
        except WorkerTimeoutError:
            if not run.record.all(PROBES):
                raise
            run.progress.note("the last session took longer than the time left, and does not count")
            break
    found = run.of(NOISE_FLOOR)
    if found is None or found.sessions < _LEAST_SESSIONS:
        raise InconclusiveError(
            f"fewer than {_LEAST_SESSIONS} sessions were timed",
            next_step="Raise --budget, or give a smaller --micro-batch-size.",
        )


QUESTION = Question(
    name="noise floor",
    keys=(MICRO_BATCH_SIZE, PROBES, TELEMETRY),
    topics=PARTS,
    run=run_noise_floor,
    tell=tell_noise_floor,
)
KIND = Kind(
    name="self-comparison",
    noun="model compared with itself",
    command="noise-floor",
    questions=(QUESTION,),
    headline=head_noise_floor,
    is_worth_telling=lambda record, _: bool(record.all(PROBES)),
    answers_in_rows=True,
)
