"""`bsadvisor probe MODEL`: measure, then answer."""

from dataclasses import dataclass
from typing import Literal

from advisor.cli.drive import Output, drive
from advisor.cli.failures import reporting_failures
from advisor.cli.nodes import Ranks, find_nodes, follow_leader
from advisor.cli.options import Allowed, CompiledTraining, Results, flag, make_spec, option
from advisor.cli.quantities import parse_duration
from advisor.cli.scenario import OnPaper, build_scenario
from advisor.cli.script import read_workload
from advisor.cli.variants import parse_variants


@dataclass(frozen=True, kw_only=True)
class _Training(CompiledTraining):
    """What is trained, in one way or several."""

    precision: str = option(
        "Arithmetic of the training step, never changed silently: fp32, tf32, bf16 or fp16. "
        "Several are compared; the recommendation is for the first.",
        default="fp32",
        metavar="NAME[,NAME...]",
    )
    compile_model: str = option(
        "Put the model through torch.compile (--no-compile does not); off,on compares both.",
        "--compile",
        default="off",
        metavar="[on|off|off,on]",
    )
    base_batch_size: int | None = option(
        "Global batch size for which your learning rate was tuned.",
        show_default="the file's BASE_BATCH_SIZE",
    )


@dataclass(frozen=True, kw_only=True)
class _Allowed(Allowed):
    """What is measured, and how far."""

    budget_s: float | None = option(
        "Wall clock that the whole command may take, such as 90s, 2m or 1h.",
        "--budget",
        metavar="TIME",
        parser=parse_duration,
        show_default="what the model needs",
    )
    global_batch_size: int | None = option(
        "Keep to this batch: advise its micro-batch, accumulation and learning rate.",
        show_default="what trains fastest",
    )
    noise_steps: int | None = option(
        "Optimizer steps along which the gradient noise is measured.",
        min=0,
        show_default="by budget",
    )
    checkpoints: list[str] | None = option(
        "Measure the noise at these saved weights, not along a training run; repeat for more.",
        "--checkpoint",
        metavar="FILE",
    )
    noise_log: str | None = option(
        "Take the noise from what a real run logged of its gradients; none is measured.",
        metavar="FILE",
    )
    sample_unit: Literal["sample", "token"] = option(
        "Tell the noise scale in samples or in tokens; batches are samples all the same.",
        default="sample",
    )
    sharpness: bool = flag(
        "Also measure the sharpness of the loss along training, and set the rates beside the limit "
        "that follows."
    )
    reserve: bool = flag(
        "The advised size must leave room for a copy of the training state, as a checkpoint takes."
    )
    train_steps: int | None = option(
        "How long you train, in optimizer steps at the base batch.", show_default="not known"
    )
    no_loader: bool = flag(
        "Your data is in memory already: batches are cut from its tensors, and no DataLoader is "
        "timed."
    )
    epoch_overhead_s: float | None = option(
        "What each epoch takes besides its steps, such as 20s for evaluation and a checkpoint.",
        "--epoch-overhead",
        metavar="TIME",
        parser=parse_duration,
        show_default="none",
    )


@reporting_failures
def probe(
    *,
    training: _Training,
    ranks: Ranks,
    allowed: _Allowed,
    on_paper: OnPaper,
    results: Results,
) -> None:
    """Measure, then recommend a batch size and learning rate.

    Memory, throughput and gradient noise are measured on this device with your own model and data,
    or in your own training script, as it is: probe train.py -- --batch-size {batch_size}
    """
    variants = parse_variants(training.precision, training.compile_model)
    nodes = find_nodes(ranks)
    workload = read_workload(
        training,
        ranks,
        nodes,
        variant=variants[0],
        base_batch_size=training.base_batch_size,
        checkpoint=bool(allowed.checkpoints),
        sharpness=allowed.sharpness,
        no_loader=allowed.no_loader,
    )
    follow_leader(nodes, workload)
    scenario = build_scenario(on_paper)
    reads = (training.model, allowed.noise_log, *(allowed.checkpoints or ()))
    output = Output(results, reads=reads)

    from advisor.advice.data import SCENARIO
    from advisor.questions import RUN
    from advisor.variants.data import VARIANTS
    from advisor.variants.stage import list_variants

    asked = ((SCENARIO, scenario), (VARIANTS, list_variants(variants)))
    drive(RUN, make_spec(workload, allowed), output, asked=asked, nodes=nodes)
