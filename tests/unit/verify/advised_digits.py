"""A run of examples/digits.py with a recommendation, built by hand: no test need probe for it."""

from pathlib import Path

import msgspec

from advisor.advice.plan import ADVICE
from advisor.device.data import DeviceFacts, Environment
from advisor.engine.document import encode_document
from advisor.engine.record import Command, Conclusions
from advisor.engine.spec import Limits
from advisor.memory.data import Probe
from advisor.questions import RUN
from advisor.rate.data import Evaluation, TrialBranch
from advisor.rate.range_test import conclude_lr_range
from advisor.training.data import OptimizerFacts, WorkloadFacts
from tests.unit.rate.range_samples import draw_curves

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "digits.py"
SIZES = (16, 32, 64, 128)
LOSSES = (2.3, 1.6, 1.1, 0.8, 0.6, 0.5, 0.4)


def build_run(**facts):
    """Return the run: batch 64 is faster at rate 1, while the rule's 2 does not train there."""
    return RUN.record_type(
        tool_version="0",
        created_at="2026-01-01T00:00:00+00:00",
        complete=True,
        command=Command(
            argv=(),
            seed=0,
            precision="fp32",
            compile=False,
            limits=Limits(max_micro_batch_size=128, no_loader=True),
            memory_limit_bytes=2**30,
        ),
        workload=WorkloadFacts(
            **{
                "file": "examples/digits.py",
                "model_name": "Sequential",
                "how_model": "",
                "how_loss": "",
                "how_optimizer": "",
                "how_batch": "",
                "parameter_count": 9610,
                "dataset_size": 1797,
                "has_dataset": True,
                "optimizer": OptimizerFacts(name="SGD", learning_rate=1.0, momentum=0.0),
                "base_batch_size": 32,
                "loss_reduction": "mean",
                **facts,
            }
        ),
        environment=Environment(
            device=DeviceFacts(kind="cpu", name="CPU", memory_bytes=2**31, available_bytes=2**31),
            torch="2",
            python="3",
            platform="Linux",
            cpu="CPU",
            cpu_threads=1,
        ),
        probes=(
            Probe(stage="memory", session=0, micro_batch_size=128, outcome="fit", steps=3),
            *(_time(size, session) for session in range(3) for size in SIZES),
        ),
        trials=tuple(
            _try(size, rate, seed, losses)
            for size, rate, losses in (
                (32, 1.0, LOSSES),
                (64, 2.0, (2.3,) * 7),
                (64, 1.0, LOSSES),
            )
            for seed in range(6)
        ),
    )


def build_ranged_run():
    """Return the run where no base batch is known: a range test at batch 64 suggests a rate."""
    curves = tuple(msgspec.structs.replace(curve, global_batch_size=64) for curve in draw_curves())
    rate = conclude_lr_range(curves).suggested
    trials = tuple(_try(64, rate, seed, LOSSES) for seed in range(1000, 1003))
    return msgspec.structs.replace(build_run(base_batch_size=None), lr_ranges=curves, trials=trials)


def write_run(path, record=None, **facts):
    """Write the run to `path` and return its recommendation."""
    conclusions = Conclusions(record or build_run(**facts))
    path.write_bytes(encode_document(RUN, conclusions))
    return conclusions.of(ADVICE)


def _time(size, session):
    step_s = 0.002 if size <= 64 else 0.002 * size / 64
    return Probe(
        stage="throughput",
        session=session,
        micro_batch_size=size,
        outcome="fit",
        steps=10,
        step_times_s=(step_s,) * 10,
    )


def _try(size, rate, seed, losses):
    return TrialBranch(
        micro_batch_size=size,
        gradient_accumulation_steps=1,
        global_batch_size=size,
        learning_rate=rate,
        seed=seed,
        samples=4000,
        evaluations=tuple(Evaluation(samples=1000 * k, loss=loss) for k, loss in enumerate(losses)),
        diverged=False,
    )
