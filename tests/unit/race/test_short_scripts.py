"""A script that ends before a branch of the race does."""

import msgspec
import pytest

from advisor.errors import WorkloadError
from advisor.race.plan import RACE
from advisor.rate.data import TrialBranch
from advisor.training.data import Script, ScriptFacts
from tests.unit.race.law_training import LawTraining, race_pairs
from tests.unit.samples import FACTS


class ShortScript(LawTraining):
    """A law whose script ends after so many steps of any batch, or of all samples."""

    def __init__(self, *, lasts_steps=10**9, lasts_samples=10**9, **law):
        super().__init__(**law)
        self.lasts_steps, self.lasts_samples = lasts_steps, lasts_samples

    def train(self, task, on_result):
        size = task.micro_batch_size * task.gradient_accumulation_steps
        most = min(self.lasts_steps, self.lasts_samples // size) * size

        def cut(branch: TrialBranch):
            seen = tuple(each for each in branch.evaluations if each.samples <= most)
            samples = min(branch.samples, most)
            on_result(msgspec.structs.replace(branch, samples=samples, evaluations=seen))

        super().train(task, cut)


def race(training):
    script = Script(arguments=("{batch_size}",))
    facts = ScriptFacts(
        script=script,
        placeholders=("batch_size", "learning_rate"),
        counted_by="its DataLoader",
        takes_rate=True,
        start_s=0.1,
        why_untrained="",
    )
    return race_pairs(training, facts=msgspec.structs.replace(FACTS, script=facts))


@pytest.mark.parametrize("short", [{"lasts_steps": 150}, {"lasts_samples": 150 * 32}])
def test_pairs_are_trained_as_long_as_the_script_lasts(short):
    run, notes = race(ShortScript(**short))
    assert any("model.py ended after 150 steps of batch 32" in note for note in notes)
    branches = run.record.trials
    assert max(each.samples for each in branches if each.global_batch_size == 32) == 150 * 32
    for each in branches:  # to the end of their fall
        assert each.samples <= short.get("lasts_samples", each.samples)
        assert each.evaluations[-1].samples == each.samples
        assert each.decays_from < each.samples
    assert run.of(RACE).does_base_train


def test_a_script_that_is_too_short_for_a_race_says_so():
    with pytest.raises(WorkloadError, match="ended after 20 steps of batch 32, too few"):
        race(ShortScript(lasts_steps=20))
