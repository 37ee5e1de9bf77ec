"""Every conclusion that a record supports; pure, so that any stored run can be redone."""

from advisor.advice.plan import ADVICE, FRONTIER, SCHEDULE, SCHEDULES
from advisor.derived import Derived
from advisor.engine.conclusions import Conclusions
from advisor.engine.record import Record
from advisor.loader.plan import LOADER
from advisor.memory.plan import MEMORY
from advisor.memory_savings.plan import MEMORY_SAVINGS
from advisor.noise.plan import NOISE
from advisor.sharpness.plan import SHARPNESS_TOPIC
from advisor.soak.plan import SOAK
from advisor.throughput.conclude import THROUGHPUT
from advisor.variants.plan import VARIANTS_TOPIC
from advisor.verify.plan import VERIFICATION_TOPIC


def derive(record: Record) -> Derived:
    """Return every conclusion that the record supports so far; a part without data is None."""
    conclusions = Conclusions(record)
    return Derived(
        memory=conclusions.of(MEMORY),
        throughput=conclusions.of(THROUGHPUT),
        noise=conclusions.of(NOISE),
        loader=conclusions.of(LOADER),
        soak=conclusions.of(SOAK),
        sharpness=conclusions.of(SHARPNESS_TOPIC),
        recommendation=conclusions.of(ADVICE),
        what_would_change=conclusions.of(MEMORY_SAVINGS),
        variants=conclusions.of(VARIANTS_TOPIC) or (),
        verification=conclusions.of(VERIFICATION_TOPIC),
        frontier=conclusions.of(FRONTIER),
        schedule=conclusions.of(SCHEDULE) or (),
        schedules=conclusions.of(SCHEDULES) or (),
    )
