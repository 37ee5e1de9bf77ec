"""`bsadvisor predict MODEL --gpu NAME`: what fits on a card that is not here, and how to train."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli.drive import Output, drive
from advisor.cli.failures import reporting_failures
from advisor.cli.options import Allowed, Model, Results, Training, flag, make_spec, option
from advisor.cli.quantities import parse_memory_limit, parse_settings, read_number
from advisor.cli.scenario import OnPaper, build_scenario
from advisor.cli.script import refuse_script
from advisor.cli.variants import parse_variant
from advisor.errors import UsageError

if TYPE_CHECKING:
    from advisor.cards.data import Price


@dataclass(frozen=True, kw_only=True)
class _Cards:
    """Which cards, and how to train on them."""

    gpu: list[str] | None = option(
        "Card to predict for, such as H100 or RTX-4090; repeat for more.", metavar="NAME"
    )
    gpu_memory: list[int] | None = option(
        "Any other card by what CUDA programs get of it, such as 24GiB; repeat for more.",
        metavar="SIZE",
        parser=parse_memory_limit,
    )
    list_gpus: bool = flag("Print the known cards and exit.")
    run: str | None = option(
        "A file that probe wrote with --json, last, or the number of one that report --list "
        "prints: how to train on each card, for how long and how much.",
        metavar="RUN",
    )
    gpu_price: list[str] | None = option(
        "With --run: price of a card, or of every card, for an hour; repeat for more.",
        metavar="[NAME=]AMOUNT",
    )
    micro_batch_size: int | None = option(
        "Micro-batch whose memory to predict.", show_default="the largest that fits"
    )
    expandable_segments: bool = flag("Predict for torch's allocator with expandable segments.")


@reporting_failures
def predict(
    model: Model = "",
    *,
    cards: _Cards,
    on_paper: Annotated[OnPaper, "samples", "epochs"],
    training: Annotated[Training, "precision", "seed", "settings"],
    allowed: Annotated[
        Allowed, "headroom_bytes", "max_micro_batch_size", "batch_multiple", "budget_s"
    ],
    results: Annotated[Results, "json_path", "markdown_path", "full", "quiet", "verbose"],
) -> None:
    """Predict the largest micro-batch on GPUs that are not here, and with --run how to train there.

    The model is traced on this machine's CPU; nothing is run on the cards, and nothing is measured.
    """
    if cards.list_gpus:
        from rich.console import Console

        from advisor.device.catalogue import list_gpus
        from advisor.predict.tell import tell_catalogue
        from advisor.report.console import write_table

        write_table(Console(), tell_catalogue(list_gpus()))
        return
    if not model:
        raise UsageError("predict needs a model file", next_step="Give MODEL, or --list-gpus.")
    output = Output(results, reads=(model,))
    refuse_script(model, "predict")

    from advisor.advice.data import SCENARIO
    from advisor.cards.data import PRICES, TRAINING
    from advisor.cards.question import KIND as PREDICTION
    from advisor.cards.reading import read_training
    from advisor.engine.kept import resolve
    from advisor.engine.record import Conclusions
    from advisor.predict.data import CARDS, CardsAsked
    from advisor.predict.prediction import list_cards
    from advisor.questions import read_run
    from advisor.training.data import WorkloadSpec

    workload = WorkloadSpec(
        target=model,
        settings=parse_settings(training.settings or []),
        device="cpu",
        precision=parse_variant(training.precision).precision,
        seed=training.seed,
    )
    asked = CardsAsked(
        gpus=tuple(cards.gpu or ()),
        gpu_memory_bytes=tuple(cards.gpu_memory or ()),
        micro_batch_size=cards.micro_batch_size,
        headroom_bytes=allowed.headroom_bytes,
        expandable_segments=cards.expandable_segments,
    )
    list_cards(asked)  # an unknown name ends the command before anything runs
    prices = tuple(map(_parse_price, cards.gpu_price or ()))
    trained = None
    if cards.run is not None:
        record = read_run(resolve(cards.run, "run"))
        scenario = build_scenario(on_paper, record.get(SCENARIO))
        trained = read_training(Conclusions(record), scenario, cards.run)
    drive(
        PREDICTION,
        make_spec(workload, replace(allowed, headroom_bytes=None)),
        output,
        asked=((CARDS, asked), (TRAINING, trained), (PRICES, prices)),
    )


def _parse_price(text: str) -> "Price":
    """Return the price of one card, or of all: `H100=2.5`, `1.8`; BadParameter where it is none."""
    from advisor.cards.data import Price
    from advisor.device.catalogue import find_gpu

    name, _, amount = text.rpartition("=")
    per_hour = read_number(amount)
    if not 1e-6 <= per_hour <= 1e9:
        raise typer.BadParameter(
            f"{text!r} is no price of an hour; write such as H100=2.5, or 1.8 for every card",
            param_hint="--gpu-price",
        )
    return Price(gpu=find_gpu(name).name if name else None, per_hour=per_hour)
