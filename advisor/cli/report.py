"""`bsadvisor report RUN.json`: draw a saved run or prediction again."""

from pathlib import Path
from typing import Annotated

import typer

from advisor.cli import options, scenario
from advisor.cli.drive import Output, refuse_no_answer
from advisor.cli.failures import reporting_failures


@reporting_failures
def report(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A file that --json wrote, of any command but doctor.",
        ),
    ],
    *,
    gpus: scenario.GpuCounts = None,
    price: scenario.Price = None,
    interconnect: scenario.InterconnectName = None,
    samples: scenario.Samples = None,
    epochs: scenario.Epochs = None,
    milestones: scenario.Milestones = None,
    gamma: scenario.Gamma = None,
    cosine: scenario.Cosine = None,
    html_path: options.HtmlFile = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,  # noqa: ARG001
) -> None:
    """Print the report of a saved run or prediction.

    It needs neither the model nor a GPU: conclusions are computed again from what was stored, and
    with the options on time, cost and schedule that are given anew.
    """
    from advisor.advice.data import SCENARIO
    from advisor.engine.conclusions import Conclusions
    from advisor.engine.document import read_record
    from advisor.questions import KINDS

    kind, record = read_record(run, KINDS)
    if kind.name == "run":
        on_paper = scenario.build_scenario(
            record.get(SCENARIO),
            gpus=gpus,
            price=price,
            interconnect=interconnect,
            samples=samples,
            epochs=epochs,
            milestones=milestones,
            gamma=gamma,
            cosine=cosine,
        )
        record = record.setting(SCENARIO, on_paper)
    conclusions = Conclusions(record)
    Output(html_path=html_path, quiet=quiet, reads=(run,)).write(kind, conclusions)
    if kind.name == "prediction":
        refuse_no_answer(kind, conclusions)
