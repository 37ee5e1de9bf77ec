"""What three usual remedies would change: the same training traced again, with one change each."""

from collections.abc import Iterable

import msgspec

from advisor.predict.data import Remedy
from advisor.predict.largest import find_upper_bound
from advisor.predict.memory_trace import Change, MemoryTrace, PredictedMemory, TraceBlock
from advisor.predict.pieces import predict_bytes

#: A remedy that moves neither the largest size nor the peak by this share is not worth its cost.
LEAST_CHANGE_FRACTION = 0.01

#: Smaller tensors keep their state in fp32, as in bitsandbytes: quantizing them saves nothing.
LEAST_QUANTIZED_ELEMENTS = 4096
#: Elements that share one scale in fp32: 4 bytes more for every 256, which is 1/64.
_ELEMENTS_FOR_EACH_SCALE = 256
_FP32_BYTES = 4

_NAMES: dict[Change, str] = {
    "bf16": "bf16 autocast",
    "checkpointing": "activation checkpointing",
    "foreach_off": "optimizer foreach=False",
    "state_8bit": "8-bit optimizer state",
}
_NOTES: dict[Change, str] = {
    "bf16": "changes the arithmetic; around the forward pass and the loss",
    "checkpointing": "the repeated blocks run their forward pass twice; with functools.partial and "
    "torch.utils.checkpoint.checkpoint, a Hugging Face model with gradient_checkpointing_enable()",
    "foreach_off": "one tensor at a time: more and smaller kernels in the optimizer step",
    "state_8bit": "a what-if by arithmetic: states of 4,096 elements and more in 8 bits, a scale "
    "for each 256 (Dettmers et al. 2021, arXiv:2110.02861)",
}


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What the training takes as it is, or with one change.

    Attributes:
        max_micro_batch_size: The largest that fits; None where it is not known.
        peak_bytes: Allocated peak at the size that is compared.
        more_flops_fraction: As in `PredictedWhatIf`.
        how_to: As in `Remedy`.
    """

    max_micro_batch_size: int | None
    peak_bytes: int
    more_flops_fraction: float | None = None
    how_to: str = ""


def choose_remedies(base: Effect, changed: Iterable[tuple[Change, Effect]]) -> tuple[Remedy, ...]:
    """Return the changes that help, the one with the largest micro-batch first.

    A change helps where it raises the largest size or lowers the peak by
    `LEAST_CHANGE_FRACTION`, and worsens neither by as much.

    Args:
        base: The training as it is.
        changed: The same with each change, at the same size and limit.

    Source: derived.
    """
    remedies = [_describe(change, effect) for change, effect in changed if _helps(base, effect)]
    return tuple(
        sorted(remedies, key=lambda one: (-(one.max_micro_batch_size or 0), one.peak_bytes))
    )


def with_8bit_state(trace: MemoryTrace) -> MemoryTrace:
    """Return the trace as if the optimizer kept its state in 8 bits.

    Every state of at least `LEAST_QUANTIZED_ELEMENTS` elements, taken to be in fp32, becomes one
    byte for each element and 4 bytes for each 256 of them. The optimizer's temporaries stay, so the
    saving is rather too small.

    Source: blockwise quantization, Dettmers et al. 2021, arXiv:2110.02861; the limits are those of
    bitsandbytes, whose blocks have shrunk from the paper's 2048 elements to 256.
    """
    return msgspec.structs.replace(trace, blocks=tuple(map(_quantize, trace.blocks)))


def count_more_flops(base: MemoryTrace, changed: MemoryTrace, size: int) -> float | None:
    """Return the operations that a change adds to a step, as a share; None where not counted."""
    before, after = _count_flops(base, size), _count_flops(changed, size)
    return None if not before or after is None else after / before - 1.0


def is_optimizer_decisive(memory: PredictedMemory, sizes: Iterable[int]) -> bool:
    """Return whether the optimizer step has the peak at any of these sizes.

    Where it has not, an optimizer step that takes less changes nothing.
    """
    peaks = (predict_bytes(memory, size) for size in sizes)
    return any(optimizer > forward_backward for forward_backward, optimizer in peaks)


def find_largest(memory: PredictedMemory, *, capacity_bytes: int, at_most: int | None) -> int:
    """Return the largest size whose predicted allocated peak fits; 0 where none does.

    Args:
        memory: The pieces of the peak.
        capacity_bytes: The most that may be allocated.
        at_most: No larger size is returned; None means no such cap.

    Source: derived.
    """
    pieces = memory.forward_backward + memory.optimizer
    bound = find_upper_bound(pieces, capacity_bytes - memory.unusable_bytes)
    return bound if at_most is None else min(bound, at_most)


def fit_capacity(
    memory: PredictedMemory, *, capacity_bytes: int, largest: int, next_size: int
) -> int:
    """Return the capacity nearest to the real one by which the prediction ends where the run did.

    What the trace does not see takes or leaves some of the limit. With the same correction for a
    training with a change, its answer is compared like with like.

    Args:
        memory: Of the training as it is.
        capacity_bytes: The real one.
        largest: The largest size that was seen to fit.
        next_size: The next one that could have fitted.

    Source: derived.
    """
    unusable = memory.unusable_bytes
    least = max(predict_bytes(memory, largest)) + unusable
    most = max(predict_bytes(memory, next_size)) + unusable - 1
    return max(least, min(most, capacity_bytes))


def _helps(base: Effect, effect: Effect) -> bool:
    before, after = base.max_micro_batch_size or 0, effect.max_micro_batch_size or 0
    gains = (after - before, base.peak_bytes - effect.peak_bytes)
    whole = (max(before, 1), base.peak_bytes)
    enough = [gain >= LEAST_CHANGE_FRACTION * of for gain, of in zip(gains, whole, strict=True)]
    worse = [gain <= -LEAST_CHANGE_FRACTION * of for gain, of in zip(gains, whole, strict=True)]
    return any(enough) and not any(worse)


def _describe(change: Change, effect: Effect) -> Remedy:
    note, more = _NOTES[change], effect.more_flops_fraction
    if more is not None and more >= LEAST_CHANGE_FRACTION:
        note = f"{100.0 * more:.0f} % more floating-point operations; {note}"
    return Remedy(
        name=_NAMES[change],
        how_to=effect.how_to,
        max_micro_batch_size=effect.max_micro_batch_size,
        peak_bytes=effect.peak_bytes,
        note=note,
    )


def _quantize(block: TraceBlock) -> TraceBlock:
    elements = block.fixed_bytes // _FP32_BYTES
    is_large = elements >= LEAST_QUANTIZED_ELEMENTS and block.bytes_per_sample == 0
    if block.category != "optimizer_state" or not is_large:
        return block
    scales = -(-elements // _ELEMENTS_FOR_EACH_SCALE)
    return msgspec.structs.replace(block, fixed_bytes=elements + _FP32_BYTES * scales)


def _count_flops(trace: MemoryTrace, size: int) -> int | None:
    if trace.flops_fixed is None or trace.flops_per_sample is None:
        return None
    return trace.flops_fixed + trace.flops_per_sample * size
