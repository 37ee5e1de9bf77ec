"""Probes and loss runs of variants whose truth is known."""

import msgspec

from advisor.engine.record import Conclusions
from advisor.memory.data import Probe
from advisor.rate.data import Evaluation, TrialBranch
from advisor.variants.data import VariantRecord
from advisor.variants.plan import VARIANTS_TOPIC
from tests.unit.samples import FACTS, make_record

SIZES = (16, 64, 256)
KNOWN = msgspec.structs.replace(FACTS, base_batch_size=256)


def make_probes(speed=1.0, sizes=SIZES, sessions=3, canary_s=0.01, **fields):
    """Return sessions of a step of 4 ms and 0.1 ms a sample, `speed` times as fast."""
    fits = Probe(
        stage="memory",
        session=0,
        micro_batch_size=max(sizes),
        outcome="fit",
        steps=3,
        step_times_s=(1.0, 0.1, 0.1),
    )
    timed = [
        Probe(
            stage="throughput",
            session=session,
            micro_batch_size=size,
            outcome="fit",
            steps=10,
            step_times_s=((0.004 + 0.0001 * size) / speed * (1.0 + 0.01 * session),) * 3,
            canary_times_s=(canary_s, canary_s),
            **fields,
        )
        for session in range(sessions)
        for size in sizes
    ]
    return (fits, *timed)


def make_losses(ends, size=32):
    return tuple(
        TrialBranch(
            micro_batch_size=size,
            gradient_accumulation_steps=1,
            global_batch_size=size,
            learning_rate=1.0,
            seed=seed,
            samples=100 * size,
            evaluations=tuple(
                Evaluation(samples=samples, loss=loss)
                for samples, loss in ((0, 2.0), (1000, end), (2000, end), (3200, end))
            )
            if end is not None
            else (Evaluation(samples=0, loss=2.0),),
            diverged=end is None,
        )
        for seed, end in enumerate(ends)
    )


def make_run(*others, losses=()):
    first = VariantRecord(precision="fp32", losses=losses)
    return msgspec.structs.replace(
        make_record(KNOWN, probes=make_probes()), variants=(first, *others)
    )


def compare(record):
    return Conclusions(record).of(VARIANTS_TOPIC)
