"""Timed blocks, and counters sampled over them."""

from advisor.device.data import Telemetry
from advisor.memory.data import Probe

#: A sample each half second, for ten seconds.
AT_S = tuple(step / 2 for step in range(21))


def held(began_s, ended_s):
    """Seconds held down so far, at each sample, by a cause that lasts that long."""
    return tuple(min(max(at_s - began_s, 0.0), ended_s - began_s) for at_s in AT_S)


def probe(*spans, session=0, size=8, **fields):
    return Probe(
        stage="throughput",
        session=session,
        micro_batch_size=size,
        outcome="fit",
        steps=10 * len(spans),
        step_times_s=tuple((ended - began) / 10 for began, ended in spans),
        block_spans_s=spans,
        block_steps=(10,) * len(spans),
        **fields,
    )


def telemetry(session=0, **columns):
    return Telemetry(session=session, at_s=AT_S, **columns)
