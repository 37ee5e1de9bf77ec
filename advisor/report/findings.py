"""One paragraph for each finding; a figure that was not measured is said to be missing, and why."""

from advisor.advice.tell import tell_advice, tell_plans
from advisor.derived import Derived, GivenConclusions
from advisor.engine.run_record import RunRecord
from advisor.loader.tell import describe_loader
from advisor.memory.tell import tell_memory
from advisor.noise.tell import tell_noise
from advisor.sharpness.tell import tell_sharpness
from advisor.soak.tell import tell_soak
from advisor.throughput.tell import describe_throughput, tell_speed
from advisor.units import NOT_MEASURED
from advisor.variants.tell import describe_compilation
from advisor.verify.tell import tell_verification


def render_findings(record: RunRecord, derived: Derived) -> list[tuple[str, str]]:
    """Return (label, paragraph) for each part of the run, missing parts included."""
    missing = f"{NOT_MEASURED}: {record.why_missing}"
    memory, throughput = derived.memory, derived.throughput
    known = GivenConclusions(record, derived)
    rows = [
        *((row.label, row.text) for row in tell_memory(known).rows),
        ("Saturation", missing if throughput is None else describe_throughput(throughput)),
        *(
            (row.label, row.text)
            for told in (tell_noise(known), tell_sharpness(known))
            for row in told.rows
        ),
    ]
    if derived.loader is not None:
        rows.append(("Loader", describe_loader(derived.loader)))
    rows += [(row.label, row.text) for row in tell_speed(known).rows]
    compilation = describe_compilation(record)
    rows += [] if compilation is None else [("Compiled", compilation)]
    rows += [(row.label, row.text) for row in tell_soak(known).rows]
    if derived.recommendation is None and memory is not None:  # no warnings name them
        rows += [("Memory", disturbance) for disturbance in memory.disturbances]
    rows += [
        (row.label, row.text) for told in (tell_advice, tell_plans) for row in told(known).rows
    ]
    return rows + [(row.label, row.text) for row in tell_verification(known).rows]
