"""`probe model.py --nproc-per-node N`: a model file on several ranks, as a script is measured."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advisor.engine.nodes import Nodes
    from advisor.training.data import Script, Variant

#: Trains a model file on the ranks that torchrun starts.
MODULE = "advisor.training.ranked"


def spread_model_file(
    model: str,
    variant: "Variant",
    *,
    strategy: str,
    settings: list[str] | None,
    seed: int,
    nproc_per_node: int,
    nodes: "Nodes | None",
) -> "Script":
    """Return how the training of a model file is started on the ranks."""
    from advisor.training.data import Script

    script = Script(
        arguments=(
            *(_escape(model), "--strategy", strategy, "--seed", str(seed)),
            *("--precision", variant.precision, *(["--compile"] if variant.compile else [])),
            *(part for setting in settings or [] for part in ("--set", _escape(setting))),
            *("--batch-size", "{batch_size}", "--accumulation", "{accumulation}"),
            *("--learning-rate", "{learning_rate}"),
        ),
        is_module=True,
        ranks=nproc_per_node,
        launch=("--standalone", f"--nproc-per-node={nproc_per_node}") * (nproc_per_node > 1),
        model_file=model,
    )
    return script if nodes is None else nodes.spread(script)


def _escape(text: str) -> str:
    """Return what stands for itself among placeholders."""
    return text.replace("{", "{{").replace("}", "}}")
