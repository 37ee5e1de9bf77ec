"""What options are made of, and those of several commands; others stand beside their command.

A command takes its options in groups, dataclasses of which each field is an option.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from advisor.cli.quantities import parse_duration, parse_memory_limit, parse_size

if TYPE_CHECKING:
    from advisor.engine.spec import Spec
    from advisor.training.data import WorkloadSpec

#: The names of `advisor.training.data.Precision`, which would cost the help text msgspec's import.
PrecisionName = Literal["fp32", "tf32", "bf16", "fp16"]

#: Seconds: long enough for every part of a small model, short enough to wait for.
DEFAULT_BUDGET_S = 120.0


#: What an option takes, by the type of its field.
_FORMS: dict[Any, dict[str, Any]] = {
    int: {"metavar": "N", "min": 1},
    int | None: {"metavar": "N", "min": 1},
    Path | None: {"metavar": "FILE"},
}


def option(help: str, *names: str, default: Any = None, **more: Any) -> Any:  # noqa: A002 - typer's word
    """Return the field of an option, called as the field where no names are given.

    `BSADVISOR_NAME` is its environment variable; what it takes follows from the field's type.
    """

    def declare(name: str, kind: Any) -> Any:
        flags = names or (f"--{name.replace('_', '-')}",)
        variable = "BSADVISOR_" + max(flags, key=len).lstrip("-").replace("-", "_").upper()
        form = {} if "parser" in more else _FORMS.get(kind, {})
        return typer.Option(*flags, envvar=variable, help=help, **(form | more))

    return field(default=default, metadata={"declare": declare})


def flag(help: str, *names: str) -> Any:  # noqa: A002 - as above
    """Return the field of an option without a value."""
    return option(help, *names, default=False)


def argument(default: Any, help: str, metavar: str, *, is_required: bool = False) -> Any:  # noqa: A002 - as above
    """Return the field of an argument."""
    made = typer.Argument(metavar=metavar, help=help)
    return field(default=default, metadata={"declare": lambda *_: made, "is_required": is_required})


def budget_option(default_s: float) -> Any:
    """Return the field of `--budget`."""
    return option(
        "Wall clock for the whole command, such as 90s, 2m or 1h.",
        "--budget",
        default=default_s,
        metavar="TIME",
        parser=parse_duration,
        show_default=f"{default_s:g}s",
    )


def spread_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with the options of its groups as parameters of its own.

    `Annotated[Group, "name", ...]` takes these of a group alone; the others have their defaults.
    """
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[Any, list[str]]] = {}
    for parameter in inspect.signature(command).parameters.values():
        group, *names = get_args(parameter.annotation) or (parameter.annotation,)
        if not is_dataclass(group):
            parameters.append(parameter.replace(kind=parameter.KEYWORD_ONLY))
            continue
        declared = [each for each in fields(group) if "declare" in each.metadata]
        taken = [each for each in declared if not names or each.name in names]
        groups[parameter.name] = group, [each.name for each in taken]
        parameters += [
            inspect.Parameter(
                each.name,
                parameter.KEYWORD_ONLY,
                default=parameter.empty if each.metadata.get("is_required") else each.default,
                annotation=Annotated[each.type, each.metadata["declare"](each.name, each.type)],
            )
            for each in taken
        ]

    @functools.wraps(command)
    def call(**values: Any) -> None:
        made = {
            name: group(**{each: values.pop(each) for each in names})
            for name, (group, names) in groups.items()
        }
        command(**made, **values)

    call.__annotations__ = {each.name: each.annotation for each in parameters}
    vars(call)["__signature__"] = inspect.Signature(parameters)
    return call


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Model file: path.py, path.py:name, or package.module:name."
    ),
]


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained, and how."""

    model: str = argument(
        "",
        "Model file (path.py, path.py:name, or package.module:name), or the script that you train "
        "with.",
        "MODEL|SCRIPT",
        is_required=True,
    )
    arguments: list[str] | None = argument(
        None,
        "The script's own arguments, with {batch_size}, {learning_rate}, {accumulation}, {seed} "
        "and {steps} where it takes them.",
        "[-- ARGS...]",
    )
    is_module: bool = flag("The script is a module, as after python -m.", "-m", "--module")
    batch_size_is: Literal["micro", "global"] = option(
        "Whether {batch_size} is the batch of one backward pass of one process, or of an optimizer "
        "step.",
        default="micro",
    )
    device: str = option(
        "Device to train on: auto, cpu, mps, cuda or cuda:INDEX.", default="auto", metavar="NAME"
    )
    precision: str = option(
        "Arithmetic of the training step; never changed silently.",
        default="fp32",
        metavar="fp32|tf32|bf16|fp16",
    )
    compile_model: str = "off"
    seed: int = option("Seeds every random generator.", default=0, min=0, max=2**32 - 1)
    settings: list[str] | None = option(
        "Extra parameter of the model file's functions; repeat for more.",
        "--set",
        metavar="NAME=VALUE",
    )


@dataclass(frozen=True, kw_only=True)
class CompiledTraining(Training):
    """The same where it may be compiled."""

    compile_model: str = option(
        "Put the model through torch.compile.", "--compile", default="off", metavar="[on|off]"
    )


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """What a command may use, and which sizes it tries; named as the limits of a `Spec`."""

    memory_limit_bytes: int | None = option(
        "Memory that training may take, such as 10GiB.",
        "--memory-limit",
        metavar="SIZE",
        parser=parse_memory_limit,
        show_default="what the device has",
    )
    headroom_bytes: int | None = option(
        "Memory kept free below the limit, such as 512MiB.",
        "--headroom",
        metavar="SIZE",
        parser=parse_size,
        show_default="by device",
    )
    max_micro_batch_size: int | None = option(
        "Largest micro-batch worth trying.", "--max-batch", show_default="no cap"
    )
    batch_multiple: int = option("Try only multiples of this size.", default=1)
    budget_s: float | None = budget_option(DEFAULT_BUDGET_S)


def make_spec(workload: "WorkloadSpec", allowed: Allowed) -> "Spec":
    """Return what the command is asked."""
    from advisor.engine.spec import Limits, Spec

    given = {name: value for name, value in vars(allowed).items() if value is not None}
    lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    return Spec(workload=workload, limits=Limits(**(given | lists)))


@dataclass(frozen=True, kw_only=True)
class Results:
    """Where results go, and how much is printed."""

    json_path: Path | None = option(
        "Write the JSON document to FILE, anew after each result; - is stdout.", "--json"
    )
    html_path: Path | None = option(
        "Also write the report as one self-contained HTML file; - is stdout.", "--html"
    )
    markdown_path: Path | None = option(
        "Write the first screen as Markdown; - is stdout.", "--markdown"
    )
    full: bool = flag("Print the full report, not only its first screen.")
    quiet: bool = flag("No progress, and only the headline of the report.", "--quiet", "-q")
    verbose: bool = flag(
        "Print the full report, this program's own traceback where it fails, and what a script "
        "prints.",
        "--verbose",
        "-v",
    )


@dataclass(frozen=True, kw_only=True)
class Against:
    """Which baseline, and at which batch."""

    micro_batch_size: int | None = option(
        "Samples of each step that is timed.", show_default="the base batch, or 32"
    )
    baseline: Path | None = option(
        "File or folder of the baseline.",
        metavar="PATH",
        show_default=".bsadvisor/baselines of the project",
    )


@dataclass(frozen=True, kw_only=True)
class GateAllowed(Allowed):
    """The same of a command that times many sessions."""

    budget_s: float | None = budget_option(600.0)
