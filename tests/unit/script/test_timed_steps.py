"""Steps that are timed: torch's own functions are in their places, and the shares are measured."""

import pytest
import torch
from torch import nn
from torch.distributed import HashStore
from torch.nn.utils import clip_grad
from torch.optim import lr_scheduler
from torch.optim import optimizer as torch_optimizer
from torch.utils.data import DataLoader, dataloader

from advisor.training.observer import Observer
from advisor.training.script.apart import Following
from advisor.training.script.hooks import watch_steps
from advisor.training.script.sizes import Sizes
from advisor.training.script.stream import StepStream
from advisor.training.script.word import Word, WordObserver, Words


class Seen(Observer):
    """What an observer was told; it has enough after some steps."""

    def __init__(self, enough):
        self.steps, self._enough = [], enough

    def after_step(self, step):
        self.steps.append(step)
        return step.number < self._enough


@pytest.fixture
def hooked():
    """A stream that sees the steps of this process, its observer, and how often that had enough."""
    seen, enough = Seen(9), []
    stream, sizes = StepStream([seen], samples=4, most_steps=None), Sizes()
    stream.on_enough = lambda: enough.append(stream.count)
    watch_steps(stream, sizes, lambda act: act())
    yield stream, seen, enough
    stream.time_steps(1)
    torch_optimizer._global_optimizer_post_hooks.clear()


def make_training():
    """A function that trains for so many steps, and one that does by a closure."""
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = lr_scheduler.ConstantLR(optimizer)
    batches = iter(DataLoader(torch.randn(400, 3), 4))

    def evaluate():
        optimizer.zero_grad()
        loss = model(next(batches)).square().mean()
        loss.backward()
        return loss

    def train(steps):
        for _ in range(steps):
            evaluate()
            clip_grad.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()

    def train_by_closure(steps):
        for _ in range(steps):
            optimizer.step(evaluate)

    return train, train_by_closure


def list_replaceable():
    return [
        torch.autograd.backward,
        torch.amp.GradScaler.step,
        clip_grad._clip_grads_with_norm_,
        lr_scheduler.ConstantLR.step,
        lr_scheduler.LRScheduler.step,
    ]


def test_in_timed_steps_torch_is_as_it_was(request):
    own, loading = list_replaceable(), dataloader._BaseDataLoaderIter.__next__
    stream, _, _ = request.getfixturevalue("hooked")
    train, _ = make_training()
    train(1)
    assert not set(own) & set(list_replaceable())
    for splits in (False, True):
        stream.time_steps(2, splits=splits)
        assert list_replaceable() == own
        assert (dataloader._BaseDataLoaderIter.__next__ is loading) == (not splits)
        assert len(torch_optimizer._global_optimizer_pre_hooks) == splits
        train(2)
        assert not set(own) & set(list_replaceable())
        assert len(torch_optimizer._global_optimizer_pre_hooks) == 1


def test_what_another_has_put_in_place_stays(hooked, monkeypatch):
    stream, _, _ = hooked
    train, _ = make_training()
    train(1)
    theirs = torch.autograd.backward

    def wrapped(*args, **kwargs):
        return theirs(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "backward", wrapped)
    stream.time_steps(2)
    train(2)
    assert torch.autograd.backward is wrapped
    assert stream.count == 3


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "closure"])
def test_observers_hear_of_the_last_one(hooked, kind):
    stream, seen, enough = hooked
    train = make_training()[kind]
    train(1)
    timed = stream.time_steps(5, every=2)
    train(4)
    assert [step.number for step in seen.steps] == [1]
    train(1)
    assert [step.number for step in seen.steps] == [1, 6]
    assert (stream.count, stream.trained, stream.timed) == (6, 6, None)
    assert len(timed.ends_s) == 2  # the fifth step is no group of two
    train(3)
    assert [step.number for step in seen.steps] == [1, 6, 7, 8, 9]
    assert enough == [9]
    assert seen.steps[-1].losses


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "closure"])
def test_the_parts_of_split_steps_are_timed(hooked, kind):
    stream, seen, _ = hooked
    train = make_training()[kind]
    train(1)
    whole = stream.time_steps(3)
    train(3)
    assert whole.optimizer_s == 0.0
    assert seen.steps[-1].waited_s == 0.0
    split = stream.time_steps(3, splits=True)
    train(3)
    took_s = split.ends_s[-1] - split.ends_s[0]
    assert 0.0 < split.optimizer_s < 2.0 * took_s
    assert seen.steps[-1].waited_s > 0.0


def test_steps_of_another_optimizer_are_none_of_them(hooked):
    stream, _, _ = hooked
    train, _ = make_training()
    train(1)
    timed = stream.time_steps(2)
    other, _ = make_training()
    other(3)
    assert timed.ends_s == []
    train(2)
    assert stream.count == 3


class _Step:
    def __init__(self, number):
        self.number = number


class _Apart:
    def __init__(self):
        self.has_begun, self.steps = False, None

    def begin(self, stream, steps):
        self.has_begun, self.steps = True, steps

    def conclude(self):
        self.has_begun = False


class _Stream:
    """Keeps how many steps are to be timed."""

    def time_steps(self, count):
        self.count = count


def test_ranks_time_the_steps_that_the_first_one_holds_a_word_for():
    """Blocks of 1, 4 and 1 step, then three apart."""
    store = HashStore()
    leader, follower = (WordObserver(Words(store), leads=leads) for leads in (True, False))
    stream, apart = _Stream(), _Apart()
    following = Following(follower, apart)
    following.attach(stream)

    def end_step(number, **held):
        if held:
            leader.hold(**held)
        for observer in (leader, follower):
            assert observer.after_step(_Step(number))
        return following.after_step(_Step(number))

    assert end_step(1)
    assert (leader.word, stream.count) == (Word(2), 1)
    assert end_step(2, steps=4)
    assert (leader.word, stream.count) == (Word(6), 4)
    assert end_step(6, steps=4, apart=3)
    assert (leader.word, stream.count) == (Word(10, apart=3), 1)
    assert end_step(7)
    assert (apart.has_begun, apart.steps) == (True, 3)
    assert not end_step(10)
