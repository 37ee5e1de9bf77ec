"""What noise and speed say of a pair before it is trained: a prior, known to a factor of two.

Legend: φ is the noise scale, N the samples of the dataset, B0 the base batch, x the rate over the
rule's rate. Steps to a loss go as (1 + φ·(1/B − 1/N)) / (x·(2 − x)).
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from advisor.engine.record import Conclusions
from advisor.noise.data import (
    NEAR_OPTIMUM_FRACTION,
    get_working_noise_scale,
    predict_relative_samples,
)
from advisor.noise.plan import NOISE
from advisor.rate.data import Candidate
from advisor.statistics import Estimate

#: Standard deviation of the log of what training takes over what the law says: measured noise
#: scales were off by factors of 0.34 to 5, ratios of times by less.
LAW_DEVIATION = math.log(2.0)
#: Rates of users over their best ones: from tuned to a quarter.
_OWN_SHARES = (1.0, 0.71, 0.5, 0.35, 0.25)
#: x·(2 − x) is taken for no less: from x = 2 on the law has no answer, while training often has.
_LEAST_PACE = 0.25


class Law(NamedTuple):
    """The law at one noise scale."""

    #: That rules for rates take as well; None where it is not known.
    noise: Estimate | None
    #: N; None where it is not known, as of an endless one.
    dataset_size: int | None = None

    @property
    def noise_scale(self) -> float | None:
        """The one number to choose by, in samples."""
        return get_working_noise_scale(self.noise)

    def count_relative_steps(self, global_batch_size: int) -> float | None:
        """Return the steps to a loss over those of an endless batch, or of the whole dataset."""
        scale = self.noise_scale
        unseen = 1.0 / global_batch_size - (1.0 / self.dataset_size if self.dataset_size else 0.0)
        return None if scale is None else 1.0 + scale * max(unseen, 0.0)

    def predict_log_ratio(
        self, way: Candidate, base: Candidate, *, rate_over_rule: float = 1.0
    ) -> float:
        """Return the log of a pair's time to a loss over the base pair's.

        Without a noise scale a batch is taken to save steps by its root, half of what it can. How
        far the user's own rate is below its best is not known, so the pace is the mean over that.

        Source: McCandlish et al. 2018, arXiv:1812.06162, for the steps; x·(2 − x) is the decrease
        of a quadratic at x times its best rate.
        """

        def progress(share: float) -> float:
            return max(share * (2.0 - share), _LEAST_PACE)

        own, other = (self.count_relative_steps(e.global_batch_size) for e in (way, base))
        steps = math.sqrt(base.global_batch_size / way.global_batch_size)
        if own is not None and other is not None:
            steps = own / other
        paces = (math.log(progress(rate_over_rule * x) / progress(x)) for x in _OWN_SHARES)
        return math.log(steps * way.step_s / base.step_s) - statistics.fmean(paces)

    def choose(self, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Return the candidates within 5 % of the least time, by size; none without φ."""
        times = [
            (each, each.step_s * steps)
            for each in candidates
            if (steps := self.count_relative_steps(each.global_batch_size)) is not None
        ]
        least = min((time for _, time in times), default=0.0)
        return tuple(each for each, time in times if time <= least * (1.0 + NEAR_OPTIMUM_FRACTION))

    def tabulate(
        self, candidates: Sequence[Candidate], base: Candidate | None
    ) -> tuple[Candidate, ...]:
        """Return the candidates with their time over the base's, samples over the smallest's."""
        scale = self.noise_scale
        if scale is None or base is None or not candidates:
            return tuple(candidates)
        fewest = predict_relative_samples(candidates[0].global_batch_size, scale)
        return tuple(
            replace(
                each,
                relative_time=math.exp(self.predict_log_ratio(each, base)),
                relative_samples=predict_relative_samples(each.global_batch_size, scale) / fewest,
            )
            for each in candidates
        )


def read_law(conclusions: Conclusions) -> Law:
    """Return the law of a run, as far as its noise is known."""
    noise, facts = conclusions.of(NOISE), conclusions.record.workload
    return Law(
        None if noise is None else noise.decisive, None if facts is None else facts.dataset_size
    )
