"""Traces built by hand, small enough to count along."""

from advisor.predict.data import CardsAsked
from advisor.predict.memory_trace import MemoryTrace, PhaseMark, TraceBlock
from advisor.predict.prediction import Case

MIB = 2**20


def add_up(trace: MemoryTrace, size: int) -> dict[str, int]:
    """Return the peaks of the bare sizes, event by event: of each phase, and of all."""
    sizes = [max(0, b.fixed_bytes + b.bytes_per_sample * size) for b in trace.blocks]
    peaks = {"all": 0}
    held, marks = 0, list(trace.phases)
    phases: list[str] = []

    def reach(place: int) -> None:
        while marks and marks[0].first_event == place:
            phases.append(marks.pop(0).phase)
            note()

    def note() -> None:
        for name in ("all", *phases[-1:]):
            peaks[name] = max(peaks.get(name, 0), held)

    for place, event in enumerate(trace.events):
        reach(place)
        held += sizes[event] if event >= 0 else -sizes[-1 - event]
        note()
    reach(len(trace.events))
    return peaks


def add_up_phases(trace: MemoryTrace, size: int) -> tuple[int, int]:
    """Return the peak of the forward and backward passes, and that of the optimizer steps."""
    peaks = add_up(trace, size)
    return max(peaks.get("forward", 0), peaks.get("backward", 0)), peaks.get("optimizer", 0)


def build_case(*, traces=None, **changed) -> Case:
    """A case with one card of 4 GiB unless told otherwise; options of `CardsAsked` go there."""
    asked = {name: changed.pop(name) for name in CardsAsked.__struct_fields__ if name in changed}
    options = {"asked": CardsAsked(**{"gpu_memory_bytes": (2**32,)} | asked)} | changed
    return Case(traces=(build_trace(),) if traces is None else traces, **options)


def build_trace(
    *, method="symbolic", size=3, parameter_bytes=64 * MIB, activation_bytes=8 * MIB
) -> MemoryTrace:
    """Three steps of a model with one parameter, Adam-like state and 16 activations."""
    blocks = [
        TraceBlock(parameter_bytes, 0, "parameter"),
        TraceBlock(0, 4096, "input"),
        TraceBlock(2 * parameter_bytes, 0, "optimizer_state"),
    ]
    events, phases = [0, 1], [PhaseMark("setup", 0, 0)]
    for step in (1, 2, 3):
        activations = list(range(len(blocks), len(blocks) + 16))
        blocks += [TraceBlock(0, activation_bytes // 16, "activation") for _ in activations]
        gradient, scratch = len(blocks), len(blocks) + 1
        blocks += [
            TraceBlock(parameter_bytes, 0, "gradient"),
            TraceBlock(parameter_bytes, 0, "temporary"),
        ]
        phases.append(PhaseMark("forward", step, len(events)))
        events += activations
        phases.append(PhaseMark("backward", step, len(events)))
        events += [gradient, *(-1 - activation for activation in reversed(activations))]
        phases.append(PhaseMark("optimizer", step, len(events)))
        events += ([2] if step == 1 else []) + [scratch, -1 - scratch, -1 - gradient]
    if method != "symbolic":
        blocks = [
            TraceBlock(block.fixed_bytes + size * block.bytes_per_sample, 0, block.category)
            for block in blocks
        ]
    return MemoryTrace(
        operators="cuda",
        method=method,
        traced_sizes=(3, 5) if method == "symbolic" else (size,),
        blocks=tuple(blocks),
        events=tuple(events),
        phases=tuple(phases),
        modules=("",),
        reason=None if method == "symbolic" else "the model branches on its batch size",
        flops_fixed=0 if method == "symbolic" else 10**9 * size,
        flops_per_sample=10**9 if method == "symbolic" else 0,
        notes=("the attention is flash attention",),
    )
