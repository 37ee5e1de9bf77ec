"""What the branches of a verification start from, and whether stored ones started there too."""

import hashlib
from pathlib import Path

from msgspec.structs import replace

from advisor.engine.budget import TRUNK_OF_BUDGET
from advisor.engine.progress import Progress
from advisor.engine.record import Record
from advisor.errors import UsageError
from advisor.noise.data import NOISE_BATCHES
from advisor.training.data import Target
from advisor.verify.data import Origin, VerificationRecord, VerifySpec

#: Steps before the branches where the run followed no trajectory; else half of the trajectory's,
#: its middle, since the noise scale behind the advice is its average.
_TRUNK_STEPS = 100
#: Most steps at rate 0 that fill the optimizer's state at a checkpoint's weights: a mean of as many
#: squares is known to about sqrt(2/100) = 14 %, so Adam's step to 7 %.
_STATE_STEPS = 100


def find_origin(target: Target, record: Record, spec: VerifySpec, progress: Progress) -> Origin:
    """Return what the branches are to start from; a note says where the run's checkpoints wait."""
    name = target.text.encode() if target.path is None else Path(target.path).read_bytes()
    origin = Origin(model_sha256=hashlib.sha256(name).hexdigest(), checkpoint=spec.checkpoint)
    if spec.checkpoint is None:
        if record.command.limits.checkpoints:
            progress.note(
                "the noise was measured at checkpoints, the branches start from initialisation: "
                "--checkpoint FILE starts them from a checkpoint"
            )
        return origin
    try:
        with Path(spec.checkpoint).open("rb") as file:
            checkpoint_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(
            f"cannot read the checkpoint {spec.checkpoint}: {error.strerror}",
            next_step="Give the path of a state_dict file.",
        ) from None
    return replace(origin, checkpoint_sha256=checkpoint_sha256)


def count_steps(record: Record, origin: Origin, step_s: float, budget_s: float) -> tuple[int, int]:
    """Return the steps that train before the branches, and those that fill a state at rate 0.

    One of them is 0. The seconds of a step are of the base pair; 0 where unknown.
    """
    own = [each.at_step for each in record.all(NOISE_BATCHES) if each.from_checkpoint is None]
    wanted = max(own, default=2 * _TRUNK_STEPS) // 2 if origin.checkpoint is None else _STATE_STEPS
    steps = min(wanted, int(TRUNK_OF_BUDGET * budget_s / step_s)) if step_s > 0.0 else wanted
    return (steps, 0) if origin.checkpoint is None else (0, steps)


def resume(
    stored: VerificationRecord | None,
    fresh: VerificationRecord,
    spec: VerifySpec,
    progress: Progress,
) -> VerificationRecord:
    """Return what is stored where it goes with this plan, else the fresh record."""
    if stored is None or spec.restart:
        return fresh
    asked = replace(
        fresh,
        trunk_steps=stored.trunk_steps,
        state_steps=stored.state_steps,
        samples=spec.samples or stored.samples,
        branches=stored.branches,
    )
    if asked == stored:
        return stored
    progress.note("what is stored was trained otherwise, so every branch is trained anew")
    return fresh
