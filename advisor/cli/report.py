"""`bsadvisor report RUN.json`: draw a saved run or prediction again."""

from pathlib import Path
from typing import Annotated

import typer

from advisor.cli import options
from advisor.cli.failures import reporting_failures
from advisor.cli.scenario import build_scenario
from advisor.errors import UsageError


@reporting_failures
def report(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A file that --json wrote: of probe, predict, lr-range or doctor --aa.",
        ),
    ],
    *,
    gpus: options.GpuCounts = None,
    price: options.Price = None,
    interconnect: options.InterconnectName = None,
    samples: options.Samples = None,
    epochs: options.Epochs = None,
    milestones: options.Milestones = None,
    gamma: options.Gamma = None,
    cosine: options.Cosine = None,
    html_path: options.HtmlFile = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,  # noqa: ARG001
) -> None:
    """Print the report of a saved run or prediction.

    It needs neither the model nor a GPU: conclusions are computed again from what was stored, and
    with the options on time, cost and schedule that are given anew.
    """
    import msgspec

    from advisor.cli.predict import print_predictions
    from advisor.cli.results import Results
    from advisor.engine.files import read_saved
    from advisor.engine.run_record import RunRecord
    from advisor.noise_floor.question import KIND
    from advisor.predict.record import PredictRecord
    from advisor.rate.range_record import LrRangeRecord

    record = read_saved(run)
    if isinstance(record, PredictRecord):
        _refuse_html(html_path, "a prediction")
        from advisor.predict.stage import Predictor

        print_predictions(record, Predictor().predict(record), quiet=quiet)
        return
    if isinstance(record, LrRangeRecord):
        from advisor.cli.lr_range import print_lr_range

        print_lr_range(record, html_path=html_path, quiet=quiet)
        return
    if isinstance(record, KIND.record_type):
        from advisor.cli.drive import Output
        from advisor.engine.conclusions import Conclusions

        _refuse_html(html_path, "a model compared with itself")
        Output().write(KIND, Conclusions(record))
        return
    assert isinstance(record, RunRecord)
    scenario = build_scenario(
        record.scenario,
        gpus=gpus,
        price=price,
        interconnect=interconnect,
        samples=samples,
        epochs=epochs,
        milestones=milestones,
        gamma=gamma,
        cosine=cosine,
    )
    record = msgspec.structs.replace(record, scenario=scenario)
    results = Results(json_path=None, html_path=html_path, quiet=quiet)
    results.save(record)
    results.write()


def _refuse_html(html_path: Path | None, of_what: str) -> None:
    if html_path is not None:
        raise UsageError(f"there is no HTML page of {of_what}", next_step="Leave out --html.")
