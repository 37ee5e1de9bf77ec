"""What the figures of time against cost rest on, in sentences."""

from collections.abc import Iterator

from advisor.advice.data import Frontier, Interconnect, Scenario
from advisor.advice.frontier import count_samples
from advisor.training.data import WorkloadFacts


def write_notes(scenario: Scenario, facts: WorkloadFacts, frontier: Frontier) -> Iterator[str]:
    """Yield what the figures rest on, and what was asked for and cannot be told."""
    if not frontier.points:
        return
    if frontier.points[-1].gpus > 1:
        yield from _explain_paper(scenario.interconnect, frontier.gradient_bytes)
    has_length = scenario.samples is not None or scenario.epochs is not None
    if has_length and facts.base_batch_size is None:
        yield (
            "Hours and money are not given: the batch that the stated length is for is not known; "
            "set BASE_BATCH_SIZE in the model file, or give --base-batch-size to probe."
        )
    elif has_length and count_samples(scenario, facts) is None:
        yield "Hours and money are not given: the dataset's size is not known; give --samples."
    elif scenario.price_per_gpu_hour is not None and not has_length:
        yield (
            "Money is not given: that needs the length of the run at the base batch, --epochs or "
            "--samples."
        )


def _explain_paper(interconnect: Interconnect | None, gradient_bytes: int | None) -> Iterator[str]:
    """Yield what the steps of several GPUs rest on."""
    yield "More than one GPU is on paper, not measured: each is taken to be as fast as this device."
    if gradient_bytes is None:
        yield (
            "Their times are lower bounds: what the GPUs exchange is not known, since the model "
            "file keeps its parameters to itself."
        )
    elif interconnect is None:
        yield (
            "Their times are lower bounds: the exchange of gradients is left out; give "
            "--interconnect."
        )
    else:
        yield (
            f"The gradients, {gradient_bytes / 1e6:.3g} MB, travel over {interconnect.name} at "
            f"{interconnect.bytes_per_s / 1e9:.4g} GB/s for each GPU and direction "
            f"({interconnect.source}), at best hidden behind the step, at worst after it; the "
            "latter decides."
        )
