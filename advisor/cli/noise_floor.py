"""`bsadvisor noise-floor MODEL`: how far this machine differs from itself."""

from advisor.cli import options
from advisor.cli.failures import reporting_failures
from advisor.cli.script import make_script
from advisor.cli.variants import make_workload, parse_variant


@reporting_failures
def noise_floor(
    model: options.ModelOrScript,
    arguments: options.ScriptArguments = None,
    *,
    is_module: options.IsModule = False,
    batch_size_is: options.BatchSizeIs = "micro",
    micro_batch_size: options.PinnedBatchSize = None,
    baseline: options.BaselinePath = None,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    compile_model: options.CompileOne = "off",
    budget: options.Budget = options.DEFAULT_BUDGET_S,
    seed: options.Seed = 0,
    settings: options.Settings = None,
    json_path: options.JsonFile = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Time a training against itself: the spread of this machine, and what a check would see.

    `check` takes what is found here into account, for the same training on the same device.
    """
    variant = parse_variant(precision, compile_model)
    script = make_script(model, arguments, is_module=is_module, batch_size_is=batch_size_is)
    workload = make_workload(
        model, variant, settings=settings, device=device, seed=seed, script=script
    )

    from advisor.cli.drive import Output, drive
    from advisor.engine.document import encode_document
    from advisor.engine.spec import Limits, Spec
    from advisor.gate import store
    from advisor.gate.reading import read_setting
    from advisor.noise_floor.data import MICRO_BATCH_SIZE
    from advisor.noise_floor.question import KIND

    asked = store.Asked(path=str(baseline or ""))
    store.refuse_unwritable(asked)
    spec = Spec(workload=workload, limits=Limits(budget_s=budget))
    output = Output(json_path=json_path, quiet=quiet, verbose=verbose, reads=(model,))
    found = drive(KIND, spec, output, asked=((MICRO_BATCH_SIZE, micro_batch_size),))
    size = found.record.get(MICRO_BATCH_SIZE)
    assert size is not None
    path = store.choose_spread_path(asked, read_setting(workload, found.record, size))
    store.save(path, encode_document(KIND, found))
    output.remark(f"kept for check in {path}")
