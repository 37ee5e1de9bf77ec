"""`bsadvisor lr-range MODEL`: the learning-rate range test."""

from typing import Annotated

from advisor.cli import options
from advisor.cli.drive import Output, drive
from advisor.cli.failures import reporting_failures
from advisor.cli.quantities import parse_rate
from advisor.cli.script import make_script, refuse_for_script
from advisor.cli.variants import make_workload, parse_variant

GlobalBatchSize = Annotated[
    int | None,
    options.option(
        "--global-batch-size",
        metavar="N",
        min=1,
        show_default="the base batch, or 32",
        help="Samples of each optimizer step.",
    ),
]
SplitBatchSize = Annotated[
    int | None,
    options.option(
        "--micro-batch-size",
        metavar="N",
        min=1,
        show_default="the whole batch",
        help="Make each step of micro-batches of this size.",
    ),
]
LowRate = Annotated[
    float | None,
    options.option(
        "--from",
        metavar="RATE",
        parser=parse_rate,
        show_default="the optimizer's rate / 10,000",
        help="Lowest learning rate of the range.",
    ),
]
HighRate = Annotated[
    float | None,
    options.option(
        "--to",
        metavar="RATE",
        parser=parse_rate,
        show_default="the optimizer's rate × 1,000",
        help="Highest learning rate of the range.",
    ),
]
RangeSteps = Annotated[
    int, options.option("--steps", min=20, max=10_000, help="Optimizer steps of each curve.")
]
RangeSeeds = Annotated[
    int, options.option("--seeds", min=2, max=100, help="Curves, each from its own start.")
]


@reporting_failures
def lr_range(
    model: options.ModelOrScript,
    arguments: options.ScriptArguments = None,
    *,
    is_module: options.IsModule = False,
    batch_size_is: options.BatchSizeIs = "micro",
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    global_batch_size: GlobalBatchSize = None,
    micro_batch_size: SplitBatchSize = None,
    low_rate: LowRate = None,
    high_rate: HighRate = None,
    steps: RangeSteps = 200,
    seeds: RangeSeeds = 3,
    budget: options.Budget = options.DEFAULT_BUDGET_S,
    seed: options.Seed = 0,
    settings: options.Settings = None,
    json_path: options.JsonFile = None,
    html_path: options.HtmlFile = None,
    markdown_path: options.MarkdownFile = None,
    full: options.Full = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Find the learning rates that train, by a range test.

    The rate rises with every step from far too low to far too high; the suggested rate is then
    trained at from fresh starts before it is printed.
    """
    variant = parse_variant(precision)
    script = make_script(model, arguments, is_module=is_module, batch_size_is=batch_size_is)
    if script is not None:
        refuse_for_script(precision=precision != "fp32", set=bool(settings))
    workload = make_workload(
        model, variant, settings=settings, device=device, seed=seed, script=script
    )
    output = Output(
        json_path=json_path,
        html_path=html_path,
        quiet=quiet,
        full=full,
        verbose=verbose,
        markdown_path=markdown_path,
        reads=(model,),
    )

    from advisor.engine.spec import Limits, Spec
    from advisor.rate.data import RANGE, RangePlan
    from advisor.rate.question import KIND

    plan = RangePlan(
        global_batch_size=global_batch_size,
        micro_batch_size=micro_batch_size,
        low_rate=low_rate,
        high_rate=high_rate,
        steps=steps,
        seeds=seeds,
    )
    spec = Spec(workload=workload, limits=Limits(budget_s=budget))
    drive(KIND, spec, output, asked=((RANGE, plan),))
