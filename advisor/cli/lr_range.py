"""`bsadvisor lr-range MODEL`: the learning-rate range test."""

from dataclasses import dataclass
from typing import Annotated

from advisor.cli.drive import Output, drive
from advisor.cli.failures import reporting_failures
from advisor.cli.nodes import Ranks, find_nodes, follow_leader
from advisor.cli.options import Allowed, Results, Training, make_spec, option
from advisor.cli.quantities import parse_rate
from advisor.cli.script import read_workload


@dataclass(frozen=True, kw_only=True)
class _Range:
    """What is tested, as `RangePlan` has it."""

    global_batch_size: int | None = option(
        "Samples of each optimizer step.", show_default="the base batch, or 32"
    )
    micro_batch_size: int | None = option(
        "Make each step of micro-batches of this size.", show_default="the whole batch"
    )
    low_rate: float | None = option(
        "Lowest learning rate of the range.",
        "--from",
        metavar="RATE",
        parser=parse_rate,
        show_default="the optimizer's rate / 10,000",
    )
    high_rate: float | None = option(
        "Highest learning rate of the range.",
        "--to",
        metavar="RATE",
        parser=parse_rate,
        show_default="the optimizer's rate × 1,000",
    )
    steps: int = option("Optimizer steps of each curve.", default=200, min=20, max=10_000)
    seeds: int = option("Curves, each from its own start.", default=3, min=2, max=100)


@reporting_failures
def lr_range(
    *,
    training: Training,
    ranks: Ranks,
    tested: _Range,
    allowed: Annotated[Allowed, "budget_s"],
    results: Results,
) -> None:
    """Find the learning rates that train, by a range test.

    The rate rises with every step from far too low to far too high; the suggested rate is then
    trained at from fresh starts before it is printed.
    """
    nodes = find_nodes(ranks)
    workload = read_workload(training, ranks, nodes)
    follow_leader(nodes, workload)
    output = Output(results, reads=(training.model,))

    from advisor.rate.range_data import RANGE, RangePlan
    from advisor.rate.range_stage import KIND

    plan = ((RANGE, RangePlan(**vars(tested))),)
    drive(KIND, make_spec(workload, allowed), output, asked=plan, nodes=nodes)
