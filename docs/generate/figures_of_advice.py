"""What is known of the advice: in loops of our own, in public scripts and codes, of rates."""

import statistics
from types import ModuleType
from typing import Any, NamedTuple

from committed import (
    draw_table,
    fine_percent,
    load_benchmark,
    ratio,
    read,
    rough_ratio,
    tell_interval,
    tell_pair,
    tell_range,
    tell_source,
)

#: Where each public script is from; the others are told below the table.
SCRIPTS = {
    "nanogpt": "nanoGPT `train.py`",
    "mnist": "pytorch/examples `mnist`",
    "vae": "pytorch/examples `vae`",
    "imagenet": "pytorch/examples `imagenet --dummy`",
    "word_language_model": "pytorch/examples `word_language_model`",
    "mingpt": "minGPT `adder.py`",
    "dlrm": "DLRM `dlrm_s_pytorch.py`",
    "timm": "timm `train.py`",
    "lightning": "Lightning `autoencoder.py`",
    "alpaca": "Stanford Alpaca `train.py` (Hugging Face Trainer)",
}


class _Told(NamedTuple):
    """What the cells of real training come to."""

    table: ModuleType
    cells: dict[str, Any]
    #: Time of the advised pair over that of the base pair, where that is largest.
    worst: float
    promised: int
    #: Promises within the factor that counts as kept, and the factor of the worst.
    kept: int
    worst_factor: float


def _judge_cells() -> _Told:
    table = load_benchmark("loop_table")
    every = read("advice_in_the_loop")["cells"]
    cells = {key: cell for key, cell in every.items() if table.is_judged(key)}
    factors = [table.find_factor(cell) for cell in cells.values() if cell["promise"] is not None]
    return _Told(
        table,
        cells,
        max(cell["ratio"]["point"] for cell in cells.values()),
        len(factors),
        sum(factor <= table.MOST_PROMISE_FACTOR for factor in factors),
        max(factors),
    )


def tell_summary() -> str:
    """Return the sentences that the README has as well."""
    told, search = _judge_cells(), read("memory_limits")["summaries"][0]
    promised = (cell for cell in told.cells.values() if cell["promise"])
    held = sum(map(told.table.is_covered, promised))
    return f"""In {len(told.cells)} cells of real training the worst advised pair took {ratio(told.worst)} times the time of the user's own; {held} of {told.promised} printed intervals held the real ratio, and {told.kept} of {told.promised} printed ratios came true within a factor of {told.table.MOST_PROMISE_FACTOR}. The largest batch took {rough_ratio(search["trials_mean"])} probes and {ratio(search["failures_mean"])} out-of-memory errors on average, and was a maximum or a granule below one in {search["within_granule"]} of {search["cells"]} cases."""


def tell_advice() -> str:
    """Return the table of cells, and what holds of them."""
    told = _judge_cells()
    every = read("advice_in_the_loop")["cells"]
    repeats = [cell for key, cell in every.items() if "#" in key]
    slow = [cell["regret"] for key, cell in told.cells.items() if "/slow/" in key]
    other = [cell["regret"] for key, cell in told.cells.items() if "/slow/" not in key]
    held = sum(map(told.table.is_covered, (c for c in told.cells.values() if c["promise"])))
    stays = sum(cell["is_stay"] for cell in repeats)
    return f"""{len(told.cells)} cells of real training: the tool with default options, then the advised pair and the base pair trained by a loop of its own from fresh starts. *Base → advised* is batch at rate; *printed* and *real* are the time that the advised pair takes over that of the base pair, with intervals; *regret* is the time over the best pair of a tuned grid, from the same starts.

{told.table.draw_table(told.cells)}

* No advised pair was slower than the base pair (worst {ratio(told.worst)}).
* The regret is {ratio(statistics.median(other))} in the middle and {ratio(max(other))} at the worst with data in memory, with a loader in the same process, and with an evaluation each epoch. Where two workers and the model share two processors (`slow`) times of the loop are uncertain and the race is short: there the tool stays, or stops halfway (regret {ratio(statistics.median(slow))}, worst {ratio(max(slow))}).
* {told.kept} of {told.promised} promises came true within a factor of {told.table.MOST_PROMISE_FACTOR} (worst {ratio(told.worst_factor)}), and {held} of {told.promised} intervals held the real ratio.
* Of {len(repeats)} probes of `examples/digits.py` as it is, half of them with the data in memory, {stays} stayed; so does the grid.

{tell_source("advice_in_the_loop")}"""


def tell_scripts() -> str:
    """Return the table of other people's training scripts."""
    scripts = read("scripts")
    rows = [_list_script(title, scripts[name]) for name, title in SCRIPTS.items()]
    promised = [each for each in scripts.values() if each.get("real") is not None]
    held = sum(
        each["printed"]["low"] <= each["real"] <= each["printed"]["high"] for each in promised
    )
    return f"""Other people's training scripts as they are, each within the same budget on two busy processors; where another pair is advised, plain runs of the script at both pairs, three starts each, in turns, to the lowest loss that all reach. The commands are in `benchmarks/scripts/README.md`. *Start* is the time of one start of the script.

{draw_table(["script", "start", "base → advised", "printed", "real"], rows)}

The real ratio lies within the printed interval in {held} of {len(promised)}.

{tell_source("scripts")}"""


def _list_script(title: str, told: dict[str, Any]) -> tuple[str, ...]:
    if told.get("base") is None:
        return title, "-", "refused: it moves its parameters without an optimizer", "-", "-"
    change = {"stay": "stays", "untried": "no time to train another"}
    advised = change.get(told["basis"]) or tell_pair(told["advised"])
    real = ratio(told["real"]) if "real" in told else "-"
    return (
        title,
        f"{rough_ratio(told['start_s'])} s",
        f"{tell_pair(told['base'])} → {advised}",
        tell_interval(told["printed"]),
        real,
    )


def tell_agreement() -> str:
    """Return what is said of one training as a script and as a model file."""
    sides = read("script_against_model")
    rows = [
        (
            name,
            f"{each['largest_micro_batch_size']:,}",
            f"{1e3 * each['base_step_s']:.3f} ms",
            tell_interval(each["noise_scale"]),
            tell_pair(each["advised"]),
            tell_interval(each["printed"]),
        )
        for name, told in sides.items()
        for each in told
    ]
    titles = ["probe of", "largest", "step of the base pair", "noise scale", "advised", "printed"]
    return f"""`examples/train_digits.py` as a script, and its parts as a model file, probed in turns by default options on two processors with neighbours.

{draw_table(titles, rows)}

{tell_source("script_against_model")}"""


def tell_codes() -> str:
    """Return the table of public codes, each with the shortest model file."""
    results = read("public_codes")
    told = results["told"]
    rows = []
    for name, each in told.items():
        followed = each.get("followed")
        is_stay = each["advised"] == each["base"]
        change = "stays" if is_stay else tell_pair(each["advised"])
        rows.append(
            (
                results["codes"][name][0] + f" ({name})",
                f"{tell_pair(each['base'])} → {change}",
                tell_interval(each["expected"]["time_ratio"]),
                "-" if followed is None else ratio(followed["real_ratio"]),
            )
        )
    timed = sum(each["is_base_timed"] for each in told.values())
    stays = sum(each["advised"] == each["base"] for each in told.values())
    seeds = {len(each["followed"]["seeds"]) for each in told.values() if "followed" in each}
    return f"""Public training codes at the commit in the result file, each with the shortest model file that gives the author's model, optimizer, batch and rate, and data made up of the right shape; a budget of {results["budget_s"]:.0f} s each on two busy processors. Where another pair is advised, both are trained in a plain loop ({max(seeds)} starts): *real* is the share of the base pair's time after which the advised one is where the base pair ends.

{draw_table(["code", "base → advised", "printed", "real"], rows)}

The author's own batch was timed in {timed} of {len(told)}; {stays} stay, most of them since no time was left to train another pair.

{tell_source("public_codes")}"""


def tell_rates() -> str:
    """Return how good the advised rates are."""
    found, rules = read("lr_range"), read("rate_rules")["summary"]
    cases = len(found["cases"])
    return f"""* **Range test** (`lr-range`): over {cases} cases (SGD, momentum and AdamW on digits, images, a table, Gaussian inputs and characters) the rate trains in {found["value_trains"]}. It is a factor of {rough_ratio(found["median_factor"])} from the best of a grid in the median and {rough_ratio(found["worst_factor"])} at worst (before it is trained {rough_ratio(found["suggested_median_factor"])} and {rough_ratio(found["suggested_worst_factor"])}), and its loss is above the best by at most {fine_percent(found["worst_excess_fraction"])} of the fall.
* **At other batches** (`rate_rules`): over {rules["batches"]} batches of two tasks the advised rate is within a factor of two of the best of a tuned grid in {rules["advised_within_factor_2"]} (worst {rough_ratio(rules["advised_worst_factor"])}), the optimizer's rule alone in {rules["rule_within_factor_2"]} (worst {rough_ratio(rules["rule_worst_factor"])}).

{tell_source("lr_range", "rate_rules")}"""


def tell_verification() -> str:
    """Return how the critical batch compares with brute force."""
    runs = read("verify_digits")
    ratios = tell_range((run["ratio"] for run in runs), lambda value: f"{value:g}")
    times = tell_range((run["probe_and_verify_s"] for run in runs), lambda value: f"{value:.0f}")
    unsure = sum(run["verdict"] == "inconclusive" for run in runs)
    return f"""On the digits the critical batch that `verify` measured was {ratios} times that of brute force with tuned rates, in each of {len(runs)} runs; in {unsure} of them the starts did not tell whether the advice holds after equal time. Probe and verification together took {times} s.

{tell_source("verify_digits")}"""


def tell_screen() -> str:
    """Return the command and the whole of what it printed."""
    result = read("first_screen")
    surroundings = " ".join(f"{name}={value}" for name, value in result["surroundings"].items())
    screen = "\n".join(result["screen"])
    return f"""`{result["command"]}`, with `{surroundings}`, all that it prints:

```text
{screen}
```

{tell_source("first_screen")}"""
