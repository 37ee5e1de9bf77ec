"""`probe train.py -- ARGS`: whether the file is a script, and how it is started."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.cli.options import Training
from advisor.cli.quantities import parse_settings
from advisor.cli.variants import parse_variant
from advisor.errors import UsageError

if TYPE_CHECKING:
    from advisor.cli.nodes import Ranks
    from advisor.engine.nodes import Nodes
    from advisor.training.data import Script, Variant, WorkloadSpec

#: What a model file has at least one of, and a script of people's own mostly none.
_MODEL_FILE = re.compile(
    r"\b(?:make_model|create_model|build_model|get_model|make_dataset|make_batch|make_step"
    r"|LightningModule)\b"
)
_HAS_MODULE = re.compile(r"^class \w+\(.*Module\b", re.MULTILINE)
_TRAINS = re.compile(r"\.(?:backward|step|fit)\(")
#: An option of the script's that its batch is probably given by.
_BATCH_OPTION = re.compile(r"""["'](--[\w-]*batch[\w-]*)["']""", re.IGNORECASE)
_VARIABLE = "BSADVISOR_BATCH_SIZE"
#: Trains a model file on the ranks that torchrun starts.
RANKED_MODULE = "advisor.training.ranked"


def read_workload(
    training: Training,
    ranks: "Ranks | None" = None,
    nodes: "Nodes | None" = None,
    *,
    variant: "Variant | None" = None,
    base_batch_size: int | None = None,
    **asked: bool,
) -> "WorkloadSpec":
    """Return what to train, in this way, or in the one that the options name.

    `asked` says of further options whether they are given, by name: a script takes none of them.

    Raises:
        typer.BadParameter: An option names several ways, or none that there is.
        UsageError: It is a script, and nothing tells it the batch, or an option is not for it.
    """
    from advisor.training.data import WorkloadSpec

    variant = variant or parse_variant(training.precision, training.compile_model)
    count = 1 if ranks is None else ranks.nproc_per_node
    script, target = make_script(training, count, nodes), training.model
    if script is not None:
        _refuse_for_script(
            precision=training.precision != "fp32",
            compile=training.compile_model != "off",
            set=bool(training.settings),
            **asked,
        )
    if script is None and ranks is not None and (count > 1 or nodes is not None):
        script = spread_model_file(training, variant, ranks.strategy, count, nodes)
        target = RANKED_MODULE
    return WorkloadSpec(
        target=target,
        script=script,
        settings=parse_settings(training.settings or []),
        device=training.device,
        precision=variant.precision,
        compile=variant.compile,
        seed=training.seed,
        base_batch_size=base_batch_size,
    )


def make_script(
    training: Training, ranks: int = 1, nodes: "Nodes | None" = None
) -> "Script | None":
    """Return how the script is started; None where the target is a model file.

    Raises:
        UsageError: It is a script, and nothing tells it the batch.
    """
    from advisor.training.script.arguments import list_placeholders

    target, arguments, text = training.model, training.arguments or [], _read(training.model)
    if not (arguments or training.is_module or _VARIABLE in text or _is_script(text)):
        return None
    if "batch_size" not in list_placeholders(arguments) and _VARIABLE not in text:
        option = next(iter(_BATCH_OPTION.findall(text)), "--batch-size")
        given, places = re.subn(
            rf"(?<!\S)({re.escape(option)}[ =])\S+", r"\1{batch_size}", " ".join(arguments)
        )
        if not places:
            given = " ".join([*arguments, option, "{batch_size}"])
        head = "-m " if training.is_module else ""
        raise UsageError(
            f"{target} is a training script, and nothing tells it which batch to take",
            next_step=f"Say where: bsadvisor probe {head}{target} -- {given}\n"
            f"A script with constants reads the environment variable {_VARIABLE}.",
        )
    is_global = training.batch_size_is == "global"
    return _start(arguments, ranks, nodes, is_module=training.is_module, batch_is_global=is_global)


def spread_model_file(
    training: Training, variant: "Variant", strategy: str, ranks: int, nodes: "Nodes | None"
) -> "Script":
    """Return how the training of a model file is started on several ranks, as a script is."""
    arguments = [
        *(_escape(training.model), "--strategy", strategy, "--seed", str(training.seed)),
        *("--precision", variant.precision, *(["--compile"] if variant.compile else [])),
        *(part for each in training.settings or [] for part in ("--set", _escape(each))),
        *("--batch-size", "{batch_size}", "--accumulation", "{accumulation}"),
        *("--learning-rate", "{learning_rate}", "--steps", "{steps}"),
    ]
    return _start(arguments, ranks, nodes, is_module=True, model_file=training.model)


def _start(arguments: list[str], ranks: int, nodes: "Nodes | None", **more: Any) -> "Script":
    from advisor.training.data import Script

    launch = ("--standalone", f"--nproc-per-node={ranks}") * (ranks > 1)
    script = Script(arguments=tuple(arguments), ranks=ranks, launch=launch, **more)
    return script if nodes is None else nodes.spread(script)


def _escape(text: str) -> str:
    """Return what stands for itself among placeholders."""
    return text.replace("{", "{{").replace("}", "}}")


def _refuse_for_script(**asked: bool) -> None:
    """Raise UsageError where something is asked of a user's script that it alone decides."""
    named = [f"--{name.replace('_', '-')}" for name, is_asked in asked.items() if is_asked]
    if named:
        raise UsageError(
            f"{' and '.join(named)}: a script trains in its own way",
            next_step="Leave the option out, or set it in the script's own arguments, after --.",
        )


def refuse_script(target: str, command: str) -> None:
    """Raise UsageError where a command that takes model files alone was given a script."""
    text = _read(target)
    if _is_script(text) and not _HAS_MODULE.search(text):
        raise UsageError(
            f"{target} is a training script; {command} takes a model file",
            next_step="probe measures a script as it is; `bsadvisor init` writes a model file to "
            "start from.",
        )


def _is_script(text: str) -> bool:
    """Return whether a file trains by itself, and has nothing of a model file."""
    return bool(_TRAINS.search(text)) and not _MODEL_FILE.search(text)


def _read(target: str) -> str:
    try:
        return Path(target).read_text(errors="replace")
    except OSError:
        return ""
