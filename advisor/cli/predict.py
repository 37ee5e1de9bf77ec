"""`bsadvisor predict MODEL --gpu NAME`: the memory question for a card that is not here."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli import options
from advisor.cli.failures import reporting_failures
from advisor.cli.quantities import parse_settings
from advisor.cli.results import is_stdout, refuse_unwritable, write_stdout
from advisor.cli.variants import parse_precision
from advisor.errors import DeviceError, UsageError

if TYPE_CHECKING:
    from advisor.engine.commands import PredictSpec
    from advisor.predict.data import Prediction
    from advisor.predict.record import PredictRecord


@reporting_failures
def predict(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="Model file: path.py, path.py:name, or package.module:name."
        ),
    ] = None,
    *,
    gpu: options.Gpus = None,
    gpu_memory: options.GpuMemory = None,
    list_gpus: Annotated[
        bool,
        typer.Option(
            "--list-gpus", envvar="BSADVISOR_LIST_GPUS", help="Print the known cards and exit."
        ),
    ] = False,
    micro_batch_size: options.MicroBatchSize = None,
    headroom: options.Headroom = None,
    precision: options.Precision = "fp32",
    expandable_segments: options.ExpandableSegments = False,
    max_batch: options.MaxBatch = None,
    batch_multiple: options.BatchMultiple = 1,
    budget: options.Budget = options.DEFAULT_BUDGET_S,
    seed: options.Seed = 0,
    settings: options.Settings = None,
    json_path: options.JsonToFile = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,  # noqa: ARG001
) -> None:
    """Predict the largest micro-batch on GPUs that are not here.

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
    pairs = parse_settings(settings or [])
    one_precision = parse_precision(precision)

    from advisor.engine.commands import PredictSpec
    from advisor.training.data import WorkloadSpec

    spec = PredictSpec(
        workload=WorkloadSpec(
            target=model, settings=pairs, device="cpu", precision=one_precision, seed=seed
        ),
        gpus=tuple(gpu or ()),
        gpu_memory_bytes=tuple(gpu_memory or ()),
        micro_batch_size=micro_batch_size,
        headroom_bytes=headroom,
        expandable_segments=expandable_segments,
        max_micro_batch_size=max_batch,
        batch_multiple=batch_multiple,
        budget_s=budget,
    )
    _run(spec, json_path, quiet=quiet)


def print_predictions(
    record: "PredictRecord",
    predictions: "tuple[Prediction, ...]",
    *,
    json_path: Path | None = None,
    quiet: bool,
) -> None:
    """Print the predictions of a record, or its JSON document where `json_path` is stdout.

    Raises:
        DeviceError: Not one sample fits on any of the cards.
    """
    if is_stdout(json_path):
        from advisor.engine.files import encode_predictions

        write_stdout(encode_predictions(record, predictions))
    else:
        from rich.console import Console

        from advisor.predict.tell import write_predictions_report

        write_predictions_report(Console(), record, predictions, headline_only=quiet)
    if predictions and all(one.max_micro_batch_size.high == 0 for one in predictions):
        raise DeviceError(
            "not even the smallest batch fits on any of these cards, by the prediction",
            next_step="Take a larger card or a smaller model, or recompute activations.",
        )


def _run(spec: "PredictSpec", json_path: Path | None, *, quiet: bool) -> None:
    from advisor.cli.progress_display import open_progress
    from advisor.engine.files import write_predictions
    from advisor.predict.stage import Predictor, run_predict

    path = None if is_stdout(json_path) else json_path
    refuse_unwritable(path)
    predictor = Predictor()

    def save(record: "PredictRecord") -> None:
        if path is not None:
            write_predictions(path, record, predictor.predict(record))

    with open_progress(quiet=quiet) as progress:
        record = run_predict(spec, argv=sys.argv, progress=progress, save=save)
        progress.stage("predicting", left_s=None)
        predictions = predictor.predict(record)
    print_predictions(record, predictions, json_path=json_path, quiet=quiet)


def _print_catalogue() -> None:
    from rich.console import Console

    from advisor.device.catalogue import list_gpus
    from advisor.predict.tell import write_catalogue

    write_catalogue(Console(), list_gpus())
