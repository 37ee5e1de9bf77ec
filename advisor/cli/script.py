"""`probe train.py -- ARGS`: whether the file is a script, and how it is started."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from advisor.errors import UsageError

if TYPE_CHECKING:
    from advisor.engine.nodes import Nodes
    from advisor.training.data import Script

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


def make_script(
    target: str,
    arguments: list[str] | None,
    *,
    is_module: bool,
    batch_size_is: Literal["micro", "global"],
    nproc_per_node: int = 1,
    nodes: "Nodes | None" = None,
) -> "Script | None":
    """Return how the script is started; None where the target is a model file.

    Raises:
        UsageError: It is a script, and nothing tells it the batch.
    """
    from advisor.training.data import Script
    from advisor.training.script.arguments import list_placeholders

    text = _read(target)
    if not arguments and not is_module and _VARIABLE not in text and not _is_script(text):
        return None
    names = list_placeholders(arguments or ())
    if "batch_size" not in names and _VARIABLE not in text:
        option = next(iter(_BATCH_OPTION.findall(text)), "--batch-size")
        given = " ".join([*(arguments or ()), option, "{batch_size}"])
        head = "-m " if is_module else ""
        raise UsageError(
            f"{target} is a training script, and nothing tells it which batch to take",
            next_step=f"Say where: bsadvisor probe {head}{target} -- {given}\n"
            f"A script with constants reads the environment variable {_VARIABLE}.",
        )
    script = Script(
        arguments=tuple(arguments or ()),
        is_module=is_module,
        batch_is_global=batch_size_is == "global",
        ranks=nproc_per_node,
        launch=("--standalone", f"--nproc-per-node={nproc_per_node}") * (nproc_per_node > 1),
    )
    return script if nodes is None else nodes.spread(script)


def refuse_for_script(**asked: bool) -> None:
    """See that nothing is asked of a script that it alone decides.

    Raises:
        UsageError: Something is.
    """
    named = [f"--{name.replace('_', '-')}" for name, is_asked in asked.items() if is_asked]
    if named:
        raise UsageError(
            f"{' and '.join(named)}: a script trains in its own way",
            next_step="Leave the option out, or set it in the script's own arguments, after --.",
        )


def refuse_script(target: str, command: str) -> None:
    """See that a command that takes model files alone was given none of a script.

    Raises:
        UsageError: It was given a script.
    """
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
