"""A training that follows a law, with the noise of real curves: the truth of a race is known."""

import math
import random

import msgspec

from advisor.engine.spec import Limits, Spec
from advisor.race.stage import continue_race, run_race
from advisor.rate.data import Evaluation, TrialBranch
from advisor.training.data import WorkloadSpec
from tests.given import open_run
from tests.unit.doubles import Notes
from tests.unit.samples import FACTS, FIXED_S, PER_SAMPLE_S, make_probes, make_record


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
        self.random = random.Random(seed)
        self.tasks = []

    def find_best_rate(self, size):
        scaled = (self.noise_scale + self.at_batch) / (self.noise_scale + size)
        return self.best_rate * size / self.at_batch * scaled

    def pace(self, size, rate):
        """Progress of a step; 0 or less where it does not train."""
        share = rate / self.find_best_rate(size)
        return share * (2.0 - share) / (1.0 + self.noise_scale / size)

    def time_ratio(self, size, rate, base=(32, 1.0)):
        """The true time to a loss far above the floor, over the base pair's."""
        own, other = (self.pace(*pair) for pair in ((size, rate), base))
        if own <= 0.0:
            return math.inf
        steps_s = [FIXED_S + PER_SAMPLE_S * each for each in (size, base[0])]
        return other / own * steps_s[0] / steps_s[1]

    def run(self, task, *, timeout_s, on_result):
        self.tasks.append(task)
        for samples in (task.samples, *task.shorter_samples):
            self.train(msgspec.structs.replace(task, samples=samples), on_result)
        return ()

    def train(self, task, on_result):
        size = task.micro_batch_size * task.gradient_accumulation_steps
        steps = task.samples // size
        falls = round(steps * (1.0 - task.decay_fraction))
        for seed in task.seeds:
            pace = self.pace(size, task.learning_rate)
            pace *= math.exp(self.random.gauss(0.0, self.pace_deviation))
            points = [(0, 2.0)]
            every = max(1, steps // task.evaluations)
            for step in range(1, steps + 1):
                if step % every and step != steps:
                    continue
                left = 1.0
                if task.decay_fraction and step > falls:
                    left = (steps - step) / (steps - falls)
                floor = self.floor * left * task.learning_rate / size * 32
                loss = 2.0 * (1.0 + max(pace, 0.0) * step) ** -0.7 + floor
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


def race_pairs(training, *, facts=FACTS, budget_s=1000.0, noise_steps=200, given=None, more=True):
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
