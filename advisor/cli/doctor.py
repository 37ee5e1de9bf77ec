"""`bsadvisor doctor`: what this machine can measure, and how well."""

from pathlib import Path

from advisor.cli import options
from advisor.cli.failures import reporting_failures
from advisor.cli.script import make_script
from advisor.cli.variants import make_workload, parse_variant


@reporting_failures
def doctor(
    arguments: options.ScriptArguments = None,
    *,
    device: options.Device = "auto",
    aa: options.Aa = None,
    micro_batch_size: options.AaBatchSize = None,
    precision: options.Precision = "fp32",
    compile_model: options.AaCompile = "off",
    budget: options.Budget = options.DEFAULT_BUDGET_S,
    seed: options.Seed = 0,
    settings: options.Settings = None,
    json_path: options.JsonFile = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,  # noqa: ARG001
) -> None:
    """Print what this machine can measure, and how well."""
    if aa is None:
        _examine(device, json_path)
        return
    variant = parse_variant(precision, compile_model)
    script = make_script(aa, arguments, is_module=False, batch_size_is="micro")
    workload = make_workload(
        aa, variant, settings=settings, device=device, seed=seed, script=script
    )

    from advisor.cli.drive import Output, drive
    from advisor.engine.spec import Limits, Spec
    from advisor.noise_floor.data import MICRO_BATCH_SIZE
    from advisor.noise_floor.question import KIND

    spec = Spec(workload=workload, limits=Limits(budget_s=budget))
    output = Output(json_path=json_path, quiet=quiet, reads=(aa,))
    drive(KIND, spec, output, asked=((MICRO_BATCH_SIZE, micro_batch_size),))


def _examine(device: str, json_path: Path | None) -> None:
    import msgspec

    from advisor.cli.drive import is_stdout, refuse_unwritable, write_result
    from advisor.engine.command import examine

    refuse_unwritable(json_path)
    environment = examine(device)
    if json_path is not None:
        document = msgspec.json.format(msgspec.json.encode(environment), indent=2) + b"\n"
        write_result(json_path, document)
    if is_stdout(json_path):
        return

    from rich.console import Console

    from advisor.device.tell import tell_machine
    from advisor.report.console import write_facts

    write_facts(Console(), tell_machine(environment))
