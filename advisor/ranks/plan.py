"""Steps of several numbers of ranks -> what the exchange costs, who is slow, how speed scales."""

import math
from collections.abc import Sequence

from advisor.engine.record import Conclusions, Topic
from advisor.memory.data import PROBES, Probe
from advisor.noise.data import predict_relative_samples
from advisor.noise.plan import NOISE
from advisor.ranks.data import RANK_PROBES, RankPoint, RankProbe, RanksConclusion
from advisor.statistics import (
    Estimate,
    compare_rates,
    estimate_mean,
    estimate_median_rate,
    median,
)

#: A rank that is slower than the middle by less is no straggler: clocks differ by as much.
_LEAST_SLOWER = 0.05


def list_numbers(ranks: int) -> tuple[int, ...]:
    """Return the numbers of ranks worth timing: powers of two, and all."""
    return (*(2**power for power in range(int(math.log2(ranks)) + 1) if 2**power < ranks), ranks)


def conclude_ranks(
    ranks: int,
    probes: Sequence[Probe],
    scaled: Sequence[RankProbe] = (),
    noise_scale: float | None = None,
) -> RanksConclusion | None:
    """Return what follows; None where no step without an exchange was timed.

    The probes are of all ranks at any size, those scaled of several numbers of ranks at as many
    samples for each; without a noise scale, in samples, time and cost are left out.
    """
    whole = [each.probe for each in scaled if each.ranks == ranks]
    for known in (whole, [each for each in probes if each.step_times_s]):
        alone = [each for each in known if len(each.rank_step_times_s) == ranks]
        if alone:
            break
    else:
        return None
    size = min(each.micro_batch_size for each in alone)
    mine = [each for each in alone if each.micro_batch_size == size]
    straggler, fraction = _find_straggler(mine)
    return RanksConclusion(
        ranks=ranks,
        global_batch_size=size,
        exchange_fraction=estimate_mean(  # beyond the step of the slowest rank alone
            [1.0 - max(each.rank_step_times_s) / median(each.step_times_s) for each in mine]
        ),
        straggler=straggler,
        straggler_fraction=fraction,
        points=_scale(scaled, ranks, noise_scale),
    )


def _find_straggler(probes: Sequence[Probe]) -> tuple[int | None, Estimate | None]:
    """Return the rank that was slowest, where all probes agree that it is slower."""
    middles = [median(probe.rank_step_times_s) for probe in probes]
    by_rank = zip(*(probe.rank_step_times_s for probe in probes), strict=True)
    slower = [
        [alone_s / middle - 1.0 for alone_s, middle in zip(each, middles, strict=True)]
        for each in by_rank
    ]
    rank = max(range(len(slower)), key=lambda each: median(slower[each]))
    found = estimate_mean(slower[rank])
    is_sure = min(slower[rank]) > _LEAST_SLOWER and (found.low or -1.0) > 0.0
    return (rank, found) if is_sure else (None, None)


def _scale(
    scaled: Sequence[RankProbe], ranks: int, noise_scale: float | None
) -> tuple[RankPoint, ...]:
    """Return each number of ranks over single ones; turns are paired."""
    rates: dict[int, dict[int, float]] = {}
    sizes: dict[int, int] = {}
    for each in scaled:
        if each.probe.step_times_s:
            sizes[each.ranks] = size = each.probe.micro_batch_size
            rates.setdefault(each.ranks, {})[each.turn] = size / median(each.probe.step_times_s)
    if len(rates) < 2 or 1 not in rates:
        return ()
    # Time to train, in units that all share.
    times = {
        count: predict_relative_samples(sizes[count], noise_scale) / median([*mine.values()])
        for count, mine in rates.items()
        if noise_scale is not None
    }
    single, whole = [*rates[1].values()], times.get(ranks)
    return tuple(
        RankPoint(
            ranks=count,
            global_batch_size=sizes[count],
            samples_per_s=estimate_median_rate([*mine.values()]),
            efficiency=compare_rates([rate / count for rate in mine.values()], single),
            relative_time=times[count] / whole if whole else None,
            relative_cost=count * times[count] / (ranks * whole) if whole else None,
        )
        for count, mine in sorted(rates.items())
    )


def _conclude(conclusions: Conclusions) -> RanksConclusion | None:
    record, noise = conclusions.record, conclusions.of(NOISE)
    facts = record.workload
    if facts is None or facts.script is None or facts.script.script.ranks < 2:
        return None
    timed = [probe for probe in record.all(PROBES) if probe.stage == "throughput"]
    own = [probe for probe in timed if probe.micro_batch_size == facts.base_batch_size]
    return conclude_ranks(
        facts.script.script.ranks,
        own or timed,
        record.all(RANK_PROBES),
        None if noise is None else noise.working,
    )


RANKS = Topic("ranks", RanksConclusion, _conclude)
