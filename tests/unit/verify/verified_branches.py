"""Branches of known truth: the loss depends on samples / (1 + B/φ) alone, as the theory has it."""

import random

from advisor.rate.data import Evaluation
from advisor.statistics import Estimate
from advisor.throughput.data import Saturation, ThroughputConclusion, ThroughputPoint
from advisor.verify.data import HeldOutEvaluation, VerificationBranch, VerificationRecord

SAMPLES, POINTS = 20_000, 20
START, FLOOR, SCALE = 2.0, 0.5, 2000.0
SIZES = (32, 64, 128, 256, 512)


def loss_at(samples, size, noise_scale):
    """Return the true loss: it falls from START towards FLOOR with the samples that count."""
    return FLOOR + (START - FLOOR) / (1.0 + samples / (1.0 + size / noise_scale) / SCALE)


def make_branch(size, seed, *, noise_scale=400.0, spread=0.0, rng=None, diverged=False, **fields):
    rng = rng or random.Random(seed)
    shift = rng.gauss(0.0, spread)
    evaluations = [
        Evaluation(
            samples=SAMPLES * k // POINTS,
            loss=loss_at(SAMPLES * k / POINTS, size, noise_scale) + (shift if k else 0.0),
        )
        for k in range(POINTS + 1)
    ]
    return VerificationBranch(
        micro_batch_size=fields.pop("micro", size),
        gradient_accumulation_steps=fields.pop("accumulation", 1),
        global_batch_size=size,
        learning_rate=fields.pop("rate", 0.1),
        seed=seed,
        samples=SAMPLES,
        evaluations=tuple(evaluations[:3] if diverged else evaluations),
        diverged=diverged,
        **fields,
    )


def make_all(noise_scale=400.0, spread=0.0, seeds=3, sizes=SIZES, rng=None):
    return [
        make_branch(size, seed, noise_scale=noise_scale, spread=spread, rng=rng)
        for seed in range(seeds)
        for size in sizes
    ]


def add_held_out(branch, gap):
    """Return the branch with held-out losses `gap` above its own."""
    held_out = tuple(
        HeldOutEvaluation(samples=one.samples, train_loss=one.loss, held_out_loss=one.loss + gap)
        for one in branch.evaluations
    )
    fields = {name: getattr(branch, name) for name in branch.__struct_fields__}
    return VerificationBranch(**{**fields, "held_out": held_out})


def make_record(branches, recommended=128):
    return VerificationRecord(
        model_sha256="0",
        seed=0,
        device="cpu",
        trunk_batch_size=32,
        trunk_learning_rate=0.1,
        trunk_steps=100,
        samples=SAMPLES,
        evaluation_batch_size=64,
        recommended_batch_size=recommended,
        branches=tuple(branches),
    )


def make_throughput(sizes=SIZES, fixed_s=0.01, sample_s=0.0001, optimizer_s=0.0):
    return ThroughputConclusion(
        points=tuple(
            ThroughputPoint(
                micro_batch_size=size,
                samples_per_s=Estimate(1.0, None, None),
                step_s=Estimate(fixed_s + sample_s * size, None, None),
                micro_step_s=fixed_s + sample_s * size - optimizer_s,
                sessions=3,
            )
            for size in sizes
        ),
        half_saturation_batch_size=Estimate(fixed_s / sample_s, None, None),
        fixed_s=fixed_s,
        per_sample_s=sample_s,
        optimizer_step_s=optimizer_s,
        saturation=Saturation(batch_size=None, low=None, high=None, status="inconclusive"),
        session_spread_fraction=None,
    )
