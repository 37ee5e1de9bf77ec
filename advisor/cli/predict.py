"""`bsadvisor predict MODEL --gpu NAME`: what fits on a card that is not here, and how to train."""

import math
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli import options, scenario
from advisor.cli.drive import Output, drive
from advisor.cli.failures import reporting_failures
from advisor.cli.quantities import parse_memory_limit
from advisor.cli.script import refuse_script
from advisor.cli.variants import make_workload, parse_variant
from advisor.errors import UsageError

if TYPE_CHECKING:
    from advisor.cards.data import Price, Training

Gpus = Annotated[
    list[str] | None,
    options.option(
        "--gpu",
        metavar="NAME",
        help="Card to predict for, such as H100 or RTX-4090; repeat for more.",
    ),
]
GpuMemory = Annotated[
    list[int] | None,
    options.option(
        "--gpu-memory",
        metavar="SIZE",
        parser=parse_memory_limit,
        help="Any other card by what CUDA programs get of it, such as 24GiB; repeat for more.",
    ),
]
MicroBatchSize = Annotated[
    int | None,
    options.option(
        "--micro-batch-size",
        min=1,
        show_default="the largest that fits",
        help="Micro-batch whose memory to predict.",
    ),
]
ExpandableSegments = Annotated[
    bool,
    options.option(
        "--expandable-segments", help="Predict for torch's allocator with expandable segments."
    ),
]
RunFile = Annotated[
    str | None,
    options.option(
        "--run",
        metavar="RUN",
        help="A file that probe wrote with --json, last, or the number of one that report --list "
        "prints: how to train on each card, for how long and how much.",
    ),
]
GpuPrices = Annotated[
    list[str] | None,
    options.option(
        "--gpu-price",
        metavar="[NAME=]AMOUNT",
        help="With --run: price of a card, or of every card, for an hour; repeat for more.",
    ),
]


@reporting_failures
def predict(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="Model file: path.py, path.py:name, or package.module:name."
        ),
    ] = None,
    *,
    gpu: Gpus = None,
    gpu_memory: GpuMemory = None,
    list_gpus: Annotated[
        bool,
        typer.Option(
            "--list-gpus", envvar="BSADVISOR_LIST_GPUS", help="Print the known cards and exit."
        ),
    ] = False,
    run: RunFile = None,
    gpu_price: GpuPrices = None,
    samples: scenario.Samples = None,
    epochs: scenario.Epochs = None,
    micro_batch_size: MicroBatchSize = None,
    headroom: options.Headroom = None,
    precision: options.Precision = "fp32",
    expandable_segments: ExpandableSegments = False,
    max_batch: options.MaxBatch = None,
    batch_multiple: options.BatchMultiple = 1,
    budget: options.Budget = options.DEFAULT_BUDGET_S,
    seed: options.Seed = 0,
    settings: options.Settings = None,
    json_path: options.JsonToFile = None,
    markdown_path: options.MarkdownFile = None,
    full: options.Full = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Predict the largest micro-batch on GPUs that are not here, and with --run how to train there.

    The model is traced on this machine's CPU; nothing is run on the cards, and nothing is measured.
    """
    if list_gpus:
        _print_catalogue()
        return
    if model is None:
        raise UsageError("predict needs a model file", next_step="Give MODEL, or --list-gpus.")
    if not gpu and not gpu_memory:
        raise UsageError(
            "predict needs a card to predict for",
            next_step="Give --gpu NAME (--list-gpus prints the names) or --gpu-memory 24GiB.",
        )
    output = Output(
        json_path=json_path,
        quiet=quiet,
        full=full,
        verbose=verbose,
        markdown_path=markdown_path,
        reads=(model,),
    )
    refuse_script(model, "predict")
    variant = parse_variant(precision)
    workload = make_workload(model, variant, settings=settings, device="cpu", seed=seed)

    from advisor.cards.data import PRICES, TRAINING
    from advisor.cards.question import KIND as PREDICTION
    from advisor.engine.spec import Limits, Spec
    from advisor.predict.data import CARDS, CardsAsked
    from advisor.predict.prediction import list_cards

    limits = Limits(budget_s=budget, max_micro_batch_size=max_batch, batch_multiple=batch_multiple)
    asked = CardsAsked(
        gpus=tuple(gpu or ()),
        gpu_memory_bytes=tuple(gpu_memory or ()),
        micro_batch_size=micro_batch_size,
        headroom_bytes=headroom,
        expandable_segments=expandable_segments,
    )
    list_cards(asked)  # an unknown name ends the command before anything runs
    prices = tuple(map(_parse_price, gpu_price or ()))
    training = None if run is None else _read_training(run, samples, epochs)
    drive(
        PREDICTION,
        Spec(workload=workload, limits=limits),
        output,
        asked=((CARDS, asked), (TRAINING, training), (PRICES, prices)),
    )


def _read_training(run: str, samples: int | None, epochs: float | None) -> "Training":
    """Return what a run trained, for as long as the options say, or the run."""
    from advisor.advice.data import SCENARIO
    from advisor.cards.reading import read_training
    from advisor.engine.conclusions import Conclusions
    from advisor.engine.kept import resolve
    from advisor.questions import read_run

    record = read_run(resolve(run, "run"))
    asked = scenario.build_scenario(record.get(SCENARIO), samples=samples, epochs=epochs)
    return read_training(Conclusions(record), asked, run)


def _parse_price(text: str) -> "Price":
    """Return the price of one card, or of all, that `text` stands for: `H100=2.5`, `1.8`.

    Raises:
        typer.BadParameter: The amount is no number above zero.
        UsageError: There is no such card.
    """
    from advisor.cards.data import Price
    from advisor.device.catalogue import find_gpu

    name, _, amount = text.rpartition("=")
    try:
        per_hour = float(amount)
    except ValueError:
        per_hour = math.nan
    if not 1e-6 <= per_hour <= 1e9:
        raise typer.BadParameter(
            f"{text!r} is no price of an hour; write such as H100=2.5, or 1.8 for every card",
            param_hint="--gpu-price",
        )
    return Price(gpu=find_gpu(name).name if name else None, per_hour=per_hour)


def _print_catalogue() -> None:
    from rich.console import Console, Group

    from advisor.device.catalogue import list_gpus
    from advisor.predict.tell import tell_catalogue
    from advisor.report.encoding import write_encodable
    from advisor.report.tables import draw_table

    write_encodable(Console(), Group(*draw_table(tell_catalogue(list_gpus()))))
