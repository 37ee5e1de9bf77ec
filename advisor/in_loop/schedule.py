"""A batch that changes in the middle of a run: by the accumulation, never by the loader."""

import functools
import math
from typing import Any

import msgspec
from torch import distributed
from torch.optim import Optimizer

from advisor.advice.notation import BatchSizeTable
from advisor.in_loop.growth import Course, follow
from advisor.in_loop.rescaling import RateRule, Rescaling


class BatchSizeSchedule:
    """How many micro-batches make an optimizer step, now: docs/in_loop.md has the loop.

    A step that the end of an epoch cuts in two goes on in the next epoch. The optimizer's rate,
    second beta and weight decay are those of the first batch; during each step they are scaled to
    its batch, and between steps they are as the user or a scheduler set them.

    Args:
        table: From so many samples on, this batch: `0:64 2e6:128`; with a monitor the first alone.
        optimizer: None where `attach` gives it later.
        micro_batch_size: Samples of a backward pass on one rank.
        world_size: Ranks that share a step; None asks torch.distributed.
        tokens_per_sample: Of a sequence, where the table's text counts tokens.
        monitor: The batch is doubled as its noise scale grows.
        largest_batch_size: With a monitor, not beyond.
        patience_steps: With a monitor, for as many samples as these steps have, the noise scale
            is above twice the batch before it is doubled.
        may_shrink: With a monitor, whether the batch is halved again, not below the first.
        rate_rule: How the rate follows the batch.

    Attributes:
        table: As it was given.
        micro_batch_samples: Of one backward pass on every rank.
        samples_seen: By the optimizer, over all ranks; what an unfinished step has seen counts
            once it is taken.
    """

    def __init__(
        self,
        table: str | BatchSizeTable,
        optimizer: Optimizer | None,
        *,
        micro_batch_size: int,
        world_size: int | None = None,
        tokens_per_sample: int = 1,
        monitor: Any = None,
        largest_batch_size: int | None = None,
        patience_steps: int = 50,
        may_shrink: bool = False,
        rate_rule: RateRule = "optimizer",
    ) -> None:
        if isinstance(table, str):
            table = BatchSizeTable.parse(table, tokens_per_sample=tokens_per_sample)
        self.table = table
        if monitor is not None and len(table.entries) > 1:
            raise ValueError(
                f"the batch follows either the table {table} or a monitor: with a monitor, "
                f'give the batch to begin with, as in "0:{table.first}"'
            )
        if world_size is None:
            is_shared = distributed.is_available() and distributed.is_initialized()
            world_size = distributed.get_world_size() if is_shared else 1
        self.micro_batch_samples = micro_batch_size * world_size
        if self.micro_batch_samples < 1:
            raise ValueError("a micro-batch has a sample at least, and a rank to be on")
        self._monitor = monitor
        self._follow = functools.partial(
            follow,
            patience_steps=patience_steps,
            smallest=table.first if may_shrink else None,
            largest=largest_batch_size,
        )
        self._rule: RateRule = rate_rule
        self._rescaling: Rescaling | None = None
        self._course = Course(batch_size=table.first)
        self.samples_seen = self._last_samples = self._done = 0
        self._is_checked = False
        if optimizer is not None:
            self.attach(optimizer)

    def attach(self, optimizer: Optimizer) -> None:
        """Scale this optimizer's steps from here on, in place of any other's."""
        self.detach()
        self._rescaling = Rescaling(optimizer, self.table.first, self._rule)

    def detach(self) -> None:
        """Leave the optimizer as it was."""
        if self._rescaling is not None:
            self._rescaling.detach()
        self._rescaling = None

    @property
    def batch_size(self) -> int:
        """Samples of the step under way, over all ranks."""
        return self._course.batch_size

    @property
    def rate_factor(self) -> float:
        """By which the rates that the optimizer shows are multiplied in the step under way."""
        return self._course.rate_factors[-1]

    @property
    def micro_batches(self) -> int:
        """Backward passes of the step under way, on each rank: what a mean loss is divided by."""
        if not self._is_checked:
            for size in self.table.list_from(self.samples_seen):
                self._split(size)
            self._is_checked = True
        return self._split(self.batch_size)

    @property
    def is_last_micro_batch(self) -> bool:
        """Whether the step follows the micro-batch under way: ranks exchange gradients then."""
        return self._done + 1 >= self.micro_batches

    def should_step(self) -> bool:
        """Count a micro-batch; return whether it is the last one of its step."""
        self._done += 1
        if self._done < self.micro_batches:
            return False
        self.end_step(self.micro_batches)
        self.begin_step()
        return True

    def step_scheduler(self, scheduler: Any) -> None:
        """Step a scheduler, whose steps are those of the first batch, as far as samples went by."""
        first, before = self.table.first, self.samples_seen - self._last_samples
        for _ in range(self.samples_seen // first - before // first):
            scheduler.step()

    def end_step(self, micro_batches: int) -> None:
        """Count a step of so many micro-batches; the optimizer's own step comes next."""
        self.set_settings()
        self._last_samples = micro_batches * self.micro_batch_samples
        self.samples_seen += self._last_samples
        self._done = 0

    def set_settings(self) -> None:
        """Have the optimizer's next step be taken with the settings of the batch under way."""
        if self._rescaling is not None:
            self._rescaling.batch_size = self.batch_size
            self._rescaling.rate_factor = self.rate_factor

    def begin_step(self, *, position: int = 0) -> None:
        """Choose the batch of the step that comes.

        Where the loop has steps begin at multiples of what they consist of, it stays until the
        `position`, the micro-batches of the epoch that are done, is one.
        """
        course = self._follow_table() if self._monitor is None else self._follow_noise()
        if position % self._split(course.batch_size) == 0:
            self._course = course

    def start_at(self, samples: int, *, position: int = 0) -> None:
        """Go on with a run that had no schedule, after so many samples of its first batch."""
        self.samples_seen, self._is_checked = samples, False
        self.begin_step(position=position)

    def state_dict(self) -> dict[str, Any]:
        """Return all that the schedule goes on from, the monitor's state included."""
        return {
            "samples_seen": self.samples_seen,
            "course": msgspec.to_builtins(self._course),
            "monitor": None if self._monitor is None else self._monitor.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], *, position: int = 0) -> None:
        """Go on after the last step, on any number of ranks, by this object's table."""
        self.samples_seen, self._last_samples, self._done = state["samples_seen"], 0, 0
        self._course, self._is_checked = msgspec.convert(state["course"], Course), False
        if self._monitor is None:
            self.begin_step(position=position)
        elif state["monitor"] is not None:
            self._monitor.load_state_dict(state["monitor"])

    def _follow_table(self) -> Course:
        size = self.table.find(self.samples_seen)
        factor = self._find_factor(self.table.first, size, None)
        return Course(batch_size=size, rate_factors=(factor,))

    def _follow_noise(self) -> Course:
        noise, course = self._monitor.value, self._course
        followed = self._follow(course, noise, self.samples_seen)
        if followed.batch_size % self.micro_batch_samples:
            return course  # half of what these ranks can share
        if noise is None or followed.batch_size == course.batch_size:
            return followed
        change = self._find_factor(course.batch_size, followed.batch_size, noise.noise_scale)
        changed, earlier = (self.rate_factor * change,), course.rate_factors
        grows = followed.batch_size > course.batch_size
        factors = earlier + changed if grows else earlier[:-1] or changed
        return msgspec.structs.replace(followed, rate_factors=factors)

    def _find_factor(self, base: int, size: int, noise_scale: float | None) -> float:
        if self._rescaling is None:
            return 1.0
        return self._rescaling.find_factor(base, size, noise_scale or math.inf)

    def _split(self, batch_size: int) -> int:
        """Return the micro-batches of a batch on each rank; ValueError where it has none such."""
        part = self.micro_batch_samples
        count, rest = divmod(batch_size, part)
        if rest or not count:
            near = [each * part for each in (count, count + 1) if each]
            raise ValueError(
                f"batch {batch_size} is no multiple of {part}, a micro-batch on every rank: the "
                f"nearest {'are' if near[1:] else 'is'} {' and '.join(map(str, near))}"
            )
        return count
