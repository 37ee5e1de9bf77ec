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

    from advisor.cli.drive import Output, refuse_no_answer
    from advisor.cli.results import Results
    from advisor.engine.conclusions import Conclusions
    from advisor.engine.files import read_saved
    from advisor.engine.run_record import RunRecord
    from advisor.noise_floor.question import KIND as SELF_COMPARISON
    from advisor.predict.question import KIND as PREDICTION
    from advisor.rate.question import KIND as LR_RANGE

    record = read_saved(run)
    if isinstance(record, LR_RANGE.record_type):
        Output(html_path=html_path, quiet=quiet).write(LR_RANGE, Conclusions(record))
        return
    if isinstance(record, PREDICTION.record_type):
        _refuse_html(html_path, "a prediction")
        conclusions = Conclusions(record)
        Output(quiet=quiet).write(PREDICTION, conclusions)
        refuse_no_answer(PREDICTION, conclusions)
        return
    if isinstance(record, SELF_COMPARISON.record_type):
        _refuse_html(html_path, "a model compared with itself")
        Output().write(SELF_COMPARISON, Conclusions(record))
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
