"""`bsadvisor probe MODEL`: measure, then answer."""

import contextlib
import sys
from typing import TYPE_CHECKING

import typer

from advisor.cli import options
from advisor.cli.failures import reporting_failures
from advisor.cli.quantities import parse_settings
from advisor.cli.results import Results
from advisor.cli.scenario import build_scenario
from advisor.cli.variants import combine, parse_compile, parse_precisions
from advisor.errors import AdvisorError, InconclusiveError

if TYPE_CHECKING:
    from advisor.engine.commands import ProbeSpec
    from advisor.engine.run_record import RunRecord


@reporting_failures
def probe(
    model: options.Model,
    *,
    device: options.Device = "auto",
    memory_limit: options.MemoryLimit = None,
    headroom: options.Headroom = None,
    precision: options.Precisions = "fp32",
    compile_model: options.Compile = "off",
    budget: options.Budget = options.DEFAULT_BUDGET_S,
    seed: options.Seed = 0,
    settings: options.Settings = None,
    base_batch_size: options.BaseBatchSize = None,
    max_batch: options.MaxBatch = None,
    batch_multiple: options.BatchMultiple = 1,
    global_batch_size: options.GivenBatchSize = None,
    noise_steps: options.NoiseSteps = None,
    checkpoints: options.Checkpoints = None,
    noise_log: options.NoiseLog = None,
    sample_unit: options.SampleUnit = "sample",
    sharpness: options.Sharpness = False,
    reserve: options.Reserve = False,
    gpus: options.GpuCounts = None,
    price: options.Price = None,
    interconnect: options.InterconnectName = None,
    samples: options.Samples = None,
    epochs: options.Epochs = None,
    milestones: options.Milestones = None,
    gamma: options.Gamma = None,
    cosine: options.Cosine = None,
    json_path: options.JsonFile = None,
    html_path: options.HtmlFile = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,  # noqa: ARG001
) -> None:
    """Measure, then recommend a batch size and learning rate.

    Memory, throughput and gradient noise are measured on this device with your own model and data.
    """
    pairs = parse_settings(settings or [])
    precisions, compiled = parse_precisions(precision), parse_compile(compile_model)
    scenario = build_scenario(
        gpus=gpus,
        price=price,
        interconnect=interconnect,
        samples=samples,
        epochs=epochs,
        milestones=milestones,
        gamma=gamma,
        cosine=cosine,
    )
    results = Results(json_path=json_path, html_path=html_path, quiet=quiet)

    from advisor.engine.commands import ProbeSpec
    from advisor.engine.spec import Limits
    from advisor.training.data import WorkloadSpec

    first, *others = combine(precisions, compiled)
    spec = ProbeSpec(
        workload=WorkloadSpec(
            target=model,
            settings=pairs,
            device=device,
            precision=first.precision,
            compile=first.compile,
            seed=seed,
            base_batch_size=base_batch_size,
        ),
        limits=Limits(
            memory_limit_bytes=memory_limit,
            headroom_bytes=headroom,
            max_micro_batch_size=max_batch,
            batch_multiple=batch_multiple,
            global_batch_size=global_batch_size,
            budget_s=budget,
            noise_steps=noise_steps,
            checkpoints=tuple(checkpoints or ()),
            noise_log=noise_log,
            sample_unit=sample_unit,
            sharpness=sharpness,
            reserve=reserve,
        ),
        variants=tuple(others),
        scenario=scenario,
    )
    _run(spec, results, quiet=quiet)
    if not results.write():
        raise typer.Exit(InconclusiveError.exit_code)


def _run(spec: "ProbeSpec", results: Results, *, quiet: bool) -> None:
    """Run the probe; whatever ends it early, print what was measured before."""
    from advisor.cli.progress_display import open_progress
    from advisor.stages import run_probe

    try:
        with open_progress(quiet=quiet) as progress:
            results.save(run_probe(spec, argv=sys.argv, progress=progress, save=results.save))
    except (KeyboardInterrupt, InconclusiveError):
        if results.record is not None and (results.record.probes or results.record.noise_batches):
            _write_partial(results)
        raise
    except AdvisorError:
        if results.record is not None and _tells_more_than_memory(results.record):
            _write_partial(results)
        raise


def _tells_more_than_memory(record: "RunRecord") -> bool:
    """Return whether there is a result besides the failure: memory alone is half of one."""
    return bool(record.noise_batches) or any(probe.stage == "throughput" for probe in record.probes)


def _write_partial(results: Results) -> None:
    """Print what there is; the failure that ended the run is the one to report."""
    with contextlib.suppress(AdvisorError):
        results.write()
