"""A training by a law whose workers and steps take their time, on a clock of its own."""

from advisor.loader.data import LoopTask
from tests.unit.race.law_training import LawTraining
from tests.unit.samples import FIXED_S, PER_SAMPLE_S


class Clock:
    """Seconds that pass only while something trains."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


class TimedTraining(LawTraining):
    """A law whose steps take so many times what they take in the samples, and workers a start."""

    def __init__(self, clock, *, start_s=0.5, times=1.0, **law):
        super().__init__(**law)
        self.clock, self.start_s, self.times = clock, start_s, times

    def train(self, task, on_result):
        size = task.micro_batch_size * task.gradient_accumulation_steps

        def keep(branch):
            step_s = self.times * (FIXED_S + PER_SAMPLE_S * size)
            self.clock.now_s += step_s * branch.samples / size
            on_result(branch)

        super().train(task, keep)

    def run(self, task, *, timeout_s, on_result):
        self.clock.now_s += self.start_s + 3.0 * isinstance(task, LoopTask)
        return super().run(task, timeout_s=timeout_s, on_result=on_result)
