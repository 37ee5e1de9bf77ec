r"""A switch to a larger batch where the trained curves of two batches cross, and what it saves.

    loss |\  small batch      A small batch is ahead at first. Where the rate is level, as between
         | \ \                warm-up and decay, a run that switches at a loss goes on as if it had
         |  \_x__             always had the larger batch: its time is the small batch's up to that
         |     \  larger      loss, and the larger one's from there.
         +----------> time

What is saved is read from starts that did not choose the switch.

Source: Zhou et al. 2026, arXiv:2601.05034, for curves that cross under warm-up, stable, decay; Wang
et al. 2026, arXiv:2602.14208, for how soon a switched run is on the larger batch's curve.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from operator import itemgetter
from typing import NamedTuple

from advisor.advice.data import Schedule
from advisor.advice.schedule import LEAST_GAIN_FRACTION, write_items
from advisor.race.compare import Curve, find_samples, read_running
from advisor.race.plan import STARTS
from advisor.rate.data import Candidate, PairKey, TrialBranch
from advisor.statistics import estimate_mean
from advisor.units import format_percent

#: Pairs with their curves over seconds in the user's loop.
_Curves = Mapping[PairKey, Curve]


class _Switch(NamedTuple):
    """From one pair to another at a loss level, and the constant pair that is its rival."""

    small: PairKey
    large: PairKey
    level: float
    rival: PairKey


def conclude_late_switch(
    groups: Mapping[PairKey, Sequence[TrialBranch]], candidates: Sequence[Candidate]
) -> Schedule | None:
    """Return whether and when to switch; None where no two batches show a curve at a level rate."""
    ways = {each.global_batch_size: each for each in candidates}
    tried = {
        key: branches
        for key, branches in groups.items()
        if key[0] in ways
        and {branch.seed for branch in branches} >= {*STARTS}
        and not any(branch.diverged for branch in branches)
    }

    def draw(starts: Iterable[int]) -> _Curves:
        chosen = {*starts}
        return {
            key: [(samples * ways[key[0]].sample_s, level) for samples, level in curve]
            for key, branches in tried.items()
            if (curve := read_running([each for each in branches if each.seed in chosen]))
        }

    whole = draw(STARTS)
    if len({size for size, _ in whole}) < 2:
        return None
    switch = _choose(whole)
    if switch is None:
        return Schedule(
            kind="trained",
            reason="no two of the trained curves cross: one constant batch is ahead all along",
        )
    gains = []
    for start in STARTS:
        chosen = _choose(draw(set(STARTS) - {start}))
        gains.append(0.0 if chosen is None else _find_gain(draw({start}), chosen))
    gain = estimate_mean(gains)
    is_advised = min(gains) >= LEAST_GAIN_FRACTION
    (size, rate), (larger, its_rate) = switch.small, switch.large
    seconds = find_samples(whole[switch.small], switch.level) or 0.0
    segments = ((seconds / ways[size].sample_s, size, rate), (0.0, larger, its_rate))
    return Schedule(
        kind="trained",
        items=write_items(candidates, segments) if is_advised else (),
        gain_fraction=gain.point,
        gain_interval=gain.map(lambda share: min(share, 1.0)),  # of all the time
        reason="the trained curves of two batches cross"
        if is_advised
        else "a switch where trained curves cross does not save "
        f"{format_percent(LEAST_GAIN_FRACTION)} from every start",
        rate_note="rates as they were trained, level until the decay" if is_advised else "",
    )


def _choose(curves: _Curves) -> _Switch | None:
    """Return the switch that saves most on these curves; None where none saves."""
    switches = []
    for small, large in permutations(curves, 2):
        if small[0] < large[0]:
            end = curves[large][-1][1]
            seconds = {key: find_samples(curve, end) for key, curve in curves.items()}
            rival = min(seconds, key=lambda key: seconds[key] or math.inf)
            switches += [_Switch(small, large, level, rival) for _, level in curves[large][1:-1]]
    gains = [(_find_gain(curves, switch), switch) for switch in switches]
    gain, best = max(gains, key=itemgetter(0), default=(0.0, None))
    return best if gain > 1e-9 else None  # less is rounding


def _find_gain(curves: _Curves, switch: _Switch) -> float:
    """Return the share of the rival's time that the switch saves, to the lowest loss of both.

    0 where a curve is not there, or does not have the loss of the switch.
    """
    if any(key not in curves for key in (switch.small, switch.large, switch.rival)):
        return 0.0
    small, large, rival = (curves[key] for key in (switch.small, switch.large, switch.rival))
    end = max(large[-1][1], rival[-1][1])
    before, its_own = find_samples(small, switch.level), find_samples(large, switch.level)
    whole, other = find_samples(large, end), find_samples(rival, end)
    if switch.level < end or before is None or its_own is None or whole is None or not other:
        return 0.0
    return 1.0 - (before + whole - its_own) / other
