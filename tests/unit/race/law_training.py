"""A training that follows a law, with the noise of real curves: the truth of a race is known."""

import math
import random

import msgspec

from advisor.engine.spec import Limits, Spec
from advisor.loader.data import LoopTask
from advisor.race.stage import continue_race, run_race
from advisor.rate.data import Evaluation, TrialBranch
from advisor.training.data import WorkloadSpec
from tests.given import open_run
from tests.unit.doubles import Notes
from tests.unit.loader.timings import make_loop_timing
from tests.unit.samples import FACTS, FIXED_S, PER_SAMPLE_S, make_probes, make_record

#: Steps of the base pair that a race is asked for, and the power of the loss's fall.
STEPS, POWER = 200, 0.7


class LawTraining:
    """Runs trial tasks by a law: a step at batch B makes 1/(1 + φ/B) of a step of progress.

    At x times the best rate it makes x·(2 − x) of that, and from 2 on the loss rises. The loss
    falls as a power of the progress, down to a floor that goes with the rate over the batch; where
    the rate falls in the end, the floor goes. Starts differ in pace, evaluations in noise.
    """

    def __init__(
        self,
        *,
        noise_scale=200.0,
        best_rate=1.0,
        at_batch=32,
        floor=0.02,
        pace_deviation=0.05,
        loss_deviation=0.01,
        seed=0,
    ):
        self.noise_scale, self.best_rate, self.at_batch = noise_scale, best_rate, at_batch
        self.floor = floor
        self.pace_deviation, self.loss_deviation = pace_deviation, loss_deviation
        self.seed, self.random = seed, random.Random(seed)
        self.tasks = []

    def find_best_rate(self, size):
        scaled = (self.noise_scale + self.at_batch) / (self.noise_scale + size)
        return self.best_rate * size / self.at_batch * scaled

    def pace(self, size, rate):
        """Progress of a step; 0 or less where it does not train."""
        share = rate / self.find_best_rate(size)
        return share * (2.0 - share) / (1.0 + self.noise_scale / size)

    def find_floor(self, size, rate):
        """The loss above which the curve at a constant rate stays."""
        return self.floor * rate / size * 32

    def time_ratio(self, size, rate, base=(32, 1.0), steps=STEPS):
        """The true time to the base pair's loss after so many steps, over what they take."""
        level = 2.0 * (1.0 + self.pace(*base) * steps) ** -POWER + self.find_floor(*base)
        left, pace = level - self.find_floor(size, rate), self.pace(size, rate)
        if pace <= 0.0 or left <= 0.0:
            return math.inf
        own = ((2.0 / left) ** (1.0 / POWER) - 1.0) / pace
        steps_s = [FIXED_S + PER_SAMPLE_S * each for each in (size, base[0])]
        return own / steps * steps_s[0] / steps_s[1]

    def best_time_ratio(self, *sizes):
        """That of the best rate of these batches."""
        shares = [0.05 * n for n in range(1, 40)]
        rates = [(size, share * self.find_best_rate(size)) for size in sizes for share in shares]
        return min(self.time_ratio(*pair) for pair in rates)

    def run(self, task, *, timeout_s, on_result):
        if isinstance(task, LoopTask):
            on_result(self.time_loop(task.micro_batch_sizes))
            return ()
        self.tasks.append(task)
        for samples in (task.samples, *task.shorter_samples):
            self.train(msgspec.structs.replace(task, samples=samples), on_result)
        return ()

    def time_loop(self, sizes):
        """Steps in a loop whose batches are in memory."""
        rounds = [
            tuple(
                (FIXED_S + PER_SAMPLE_S * size) * self.random.uniform(1.0, 1.02) for _ in range(8)
            )
            for size in sizes
        ]
        return make_loop_timing(sizes, rounds, is_in_memory=True)

    def train(self, task, on_result):
        size = task.micro_batch_size * task.gradient_accumulation_steps
        steps = task.samples // size
        falls = round(steps * (1.0 - task.decay_fraction))
        for seed in task.seeds:
            key = (self.seed, size, task.learning_rate, seed)
            luck = random.Random(repr(key)).gauss(0.0, self.pace_deviation)
            pace = self.pace(size, task.learning_rate) * math.exp(luck)
            points = [(0, 2.0)]
            every = max(1, steps // task.evaluations)
            for step in range(1, steps + 1):
                if step % every and step != steps:
                    continue
                left = 1.0
                if task.decay_fraction and step > falls:
                    left = (steps - step) / (steps - falls)
                floor = left * self.find_floor(size, task.learning_rate)
                loss = 2.0 * (1.0 + max(pace, 0.0) * step) ** -POWER + floor
                loss *= math.exp(self.random.gauss(0.0, self.loss_deviation * math.sqrt(left)))
                points.append((step * size, loss if pace > 0 else 9.0))
            on_result(
                TrialBranch(
                    micro_batch_size=task.micro_batch_size,
                    gradient_accumulation_steps=task.gradient_accumulation_steps,
                    global_batch_size=size,
                    learning_rate=task.learning_rate,
                    seed=seed,
                    samples=task.samples,
                    evaluations=tuple(Evaluation(samples=n, loss=loss) for n, loss in points),
                    diverged=False,
                    beta2=task.beta2,
                    weight_decay=task.weight_decay,
                    decays_from=falls * size if task.decay_fraction else None,
                )
            )


def race_pairs(training, *, facts=FACTS, budget_s=1000.0, noise_steps=STEPS, given=None, more=True):
    """Return the run after its race, and what it noted."""
    notes = Notes()
    limits = Limits(budget_s=budget_s, noise_steps=noise_steps, global_batch_size=given)
    spec = Spec(workload=WorkloadSpec(target="model.py"), limits=limits)
    run = open_run(spec, runner=training, progress=notes, save=lambda record: None)
    run.record = make_record(facts, probes=make_probes(), global_batch_size=given, no_loader=True)
    run_race(run)
    while more and continue_race(run):
        pass
    return run, notes.notes
