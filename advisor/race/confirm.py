"""Whether a pick is faster: it and the base pair, trained from new starts that chose nothing."""

import math
from itertools import islice

from msgspec.structs import replace

from advisor.loader.question import choose_loop_s, time_loop
from advisor.race.data import PairResult, Race
from advisor.race.loop_time import LOOP_TIMES
from advisor.race.picks import LEAST_RATIO
from advisor.race.plan import FRESH, LEAST_FRESH, choose_best
from advisor.race.trainer import Trainer
from advisor.throughput.stage import time_sizes

#: Lengths of the base pair's branches, as shares of the longest: the pick's time is known.
_BASE_LENGTHS = (1.0, math.sqrt(0.5))
#: Those of the pick, around where it should be as low as the base pair.
_PICK_LENGTHS = (1.15, 0.8)
#: Time of a pick's branch over that of the base pair's longest, at most.
_MOST_TIME_RATIO = 1.0
#: To time a script's step takes about so long beside its start, in seconds.
_BLOCK_S = 1.0
#: Starts after which a pick stays undecided.
_MOST_FRESH = 24
#: Log of the time by which a pick must look faster than a winner to be judged as well; the error of
#: the log up to which a winner's ratio is known well; and that from which on it is worth more time.
_WORTH_A_CHANGE, _KNOWN_WELL, _KNOWN_BADLY = math.log(0.9), 0.09, 0.2


def judge_next(trainer: Trainer, race: Race, most_s: float) -> bool:
    """Train a pick and the base pair from new starts; return whether one was open."""
    run, winner, pick = trainer.run, race.winner, _choose_open(trainer, race)
    if pick is None:
        return False
    trained = {branch.seed for branch in trainer.list_pair(pick.key)}
    seeds = tuple(islice((seed for seed in FRESH if seed not in trained), LEAST_FRESH))
    times, base = run.of(LOOP_TIMES), trainer.base
    is_known = times is None or pick.split == base.split or times.is_known(pick.split, base.split)
    needed_s = predict_s(trainer, pick)
    if not is_known and run.facts.script is None:
        needed_s += run.start_s + choose_loop_s(run)
    elif not is_known:
        needed_s += 2.0 * (run.start_s + _BLOCK_S)
    is_close = winner is None or (winner.error or 0.0) > _KNOWN_BADLY
    if not trainer.affords(needed_s, most_s, is_close=is_close):
        run.progress.note(
            f"trial: no time left to confirm batch {pick.global_batch_size} from new starts, "
            f"about {needed_s:.0f} s"
        )
        return False
    if not is_known:  # what is timed of a script is its loop
        time_steps = time_loop if run.facts.script is None else time_sizes
        time_steps(run, (base.micro_batch_size, pick.micro_batch_size))
    trained = {branch.seed for branch in trainer.list_pair(trainer.pair.key)}
    missing = tuple(seed for seed in seeds if seed not in trained)
    if missing:
        trainer.train_base(missing, _BASE_LENGTHS)
    _train_pick(trainer, pick, seeds)
    return True


def _train_pick(trainer: Trainer, pick: PairResult, seeds: tuple[int, ...]) -> None:
    """Train it as long as should make it as low as the base pair, then less while it is lower."""
    lengths = [math.exp(pick.log_ratio or 0.0) * length for length in _PICK_LENGTHS]
    ratios = [min(max(length, LEAST_RATIO), _MOST_TIME_RATIO) for length in lengths]
    while True:
        task = trainer.make_pair(pick.global_batch_size, pick.learning_rate, ratios, seeds)
        trainer.train(replace(task, beta2=pick.beta2, weight_decay=pick.weight_decay))
        is_shortest = ratios[-1] <= LEAST_RATIO
        if is_shortest or trainer.is_over or not trainer.is_only_bound(pick.key, seeds):
            return
        ratios = [ratios[-1] / 2.0]


def _choose_open(trainer: Trainer, race: Race) -> PairResult | None:
    """Return the best pick; beside a winner what looks faster still, then the winner itself.

    None once the winner's time is known well, or no pick is open.
    """
    ahead, winner = [pair for pair in race.pairs if pair.standing == "ahead"], race.winner
    if winner is not None:
        most = (winner.log_ratio or 0.0) + _WORTH_A_CHANGE
        ahead = [pair for pair in ahead if (pair.log_ratio or 0.0) < most]
        if not ahead and (winner.error or 0.0) > _KNOWN_WELL:
            ahead = [winner]
    open_ones = [pair for pair in ahead if pair.fresh_starts < _MOST_FRESH]
    return choose_best(open_ones, trainer.run.spec.limits.global_batch_size)


def predict_s(trainer: Trainer, pick: PairResult | None = None) -> float:
    """Return the time of a confirmation, of any pair where none is picked yet."""
    own_s = trainer.predict_s(trainer.pair.global_batch_size, _BASE_LENGTHS)
    if pick is None:
        return LEAST_FRESH * 2.0 * own_s
    time_ratio = min(math.exp(pick.log_ratio or 0.0), _MOST_TIME_RATIO)
    lengths = [length * time_ratio for length in _PICK_LENGTHS]
    return LEAST_FRESH * (own_s + trainer.predict_s(pick.global_batch_size, lengths))
