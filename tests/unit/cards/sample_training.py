"""A training as a run left it, and cards it might go to, built by hand."""

from advisor.cards.data import Ratio, TrainedPair, Training
from tests.unit.predict.sample_trace import build_case, build_trace

A100, H100, L4, T4 = "A100 80GB SXM", "H100 SXM", "L4", "T4"


def make_pair(size, *, samples=1.0, spread=0.1, step_s=0.5, rate=1.0, count=1):
    """A pair that takes `samples` times those of the base pair to the same loss."""
    return TrainedPair(
        global_batch_size=size,
        learning_rate=rate,
        micro_batch_size=size // count,
        gradient_accumulation_steps=count,
        step_s=step_s,
        sample_ratio=Ratio(
            point=samples, low=samples / (1.0 + spread), high=samples * (1.0 + spread)
        ),
    )


#: The user's own; nothing was surely faster.
BASE = make_pair(32, spread=0.0)


def make_training(*pairs, device=A100, **changes):
    fields = {"run": "run.json", "precision": "fp32", "largest_micro_batch_size": 4096} | changes
    return Training(device=device, pairs=pairs or (BASE,), **fields)


def make_case(*gpus, flops_per_sample=10**12, **changes):
    """Predictions of a model of 64 MiB for these cards."""
    trace = build_trace(**changes.pop("trace", {}))
    heavy = {"flops_fixed": 0, "flops_per_sample": flops_per_sample}
    traces = (type(trace)(**{n: getattr(trace, n) for n in trace.__struct_fields__} | heavy),)
    return build_case(traces=traces, gpus=gpus, gpu_memory_bytes=(), **changes)
