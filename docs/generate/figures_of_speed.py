"""What is known of timing: against loops by hand, over runs, saturation, the gate, our own cost."""

import statistics
from collections import Counter

from committed import draw_table, percent, ratio, read, rough_ratio, tell_range, tell_source

from advisor.errors import UsageError


def tell_timing() -> str:
    """Return timings beside those of loops that are written by hand, and of each other."""
    pairs = read("throughput_against_loop")
    runs = read("repeatability")
    low, high = runs["shared_saturation_interval"]
    return f"""* **Against a loop written by hand**: {tell_range((each["median_ratio"] for each in pairs), ratio)} times its throughput, on {len(pairs)} examples.
* **Again and again**: {len(runs["saturation"])} probes of one perceptron, on one thread of a shared machine: the saturation intervals have the batches from {low} to {high} in common, and the throughput at one batch differed by {100 * runs["spread_fraction"]:.1f} %; that of a loop written by hand, timed in turns, by {100 * runs["loop_spread_fraction"]:.1f} %. On a quiet machine it has not been shown.

{tell_source("throughput_against_loop", "repeatability")}"""


def tell_saturation() -> str:
    """Return the simulated laws of step time."""
    rows = read("saturation_simulation")
    laws = {row["law"] for row in rows}
    noises = sorted({100 * row["noise_fraction"] for row in rows})
    still = [row["kneedle_still_fraction"] for row in rows]

    def span(name: str) -> str:
        return tell_range((row[f"{name}_fraction"] for row in rows), percent)

    loaded = read("saturation_under_load")
    spans = []
    for row in loaded["models"]:
        seen = [each["step_ratio"] for each in row["probes"] if each.get("step_ratio")]
        spans.append(max(seen) / min(seen))

    return f"""Simulated: {len(laws)} kinds of step-time law, three of which the analysis does not know, at {", ".join(f"{each:g}" for each in noises)} % noise, {rows[0]["cases"]} cases each in two ranges. The interval held the truth in {span("covered")}, {span("answered")} got an answer, whether the curve still rises was told rightly in {span("right_status")}, and doubling the range moved the answer by less than a doubling in {span("still")}. Kneedle on the same data stayed in {tell_range(still, percent)}.

Real, beside a process that computes without a pause and is left a processor: of {loaded["probes"]} probes of {len(loaded["models"])} models {loaded["answered"]} got an answer. {loaded["compared"]} can be held against a long measurement alone, and {loaded["agreed"]} of these agree with it. The time of a step at the largest batch over that at a small one differed between the probes of a model by up to a factor of {max(spans):.2f} ({statistics.median(spans):.2f} in the middle).

{tell_source("saturation_simulation", "saturation_under_load")}"""


def tell_gate() -> str:
    """Return how often `check` is wrong on simulated machines, beside the rules of others."""
    result = read("gate_simulation")
    header = ["machine", "slower by", "PASS", "INCONCLUSIVE", "FAIL", "a t-test on steps fails"]
    rows = []
    for key, cell in result["cells"].items():
        machine, change, way = key.rsplit(", ", 2)
        if way == "baseline" and not machine.startswith("drifting"):
            ours = [cell["ours"].get(name, 0.0) for name in ("pass", "inconclusive", "fail")]
            others = cell["others_fail"]["step_t_test"]
            slower = change.removeprefix("slower by ").replace("%", " %")
            rows.append((machine, slower, *map(percent, [*ours, others])))
    return f"""Simulated checks with known truth against a baseline, {result["cases"]} of each kind, at the usual threshold: how often each verdict falls. The result file has the other rules and checks of revisions in turns as well.

{draw_table(header, rows)}

On a real machine with neighbours at work, in a repository of its own; *loaded* has two more processes that compute meanwhile, from the baseline on or beside both revisions:

{_draw_real_checks()}

{_tell_damaged_files()}

{tell_source("gate_simulation", "gate_real", "gate_fuzz")}"""


def _tell_damaged_files() -> str:
    found = read("gate_fuzz")
    ends = [(int(end.rpartition(" ")[-1]), count) for end, count in found["ends"].items()]
    refused = sum(count for code, count in ends if code == UsageError.exit_code)
    return (
        f"Of {found['cases']:,} baselines, checks and runs in which one thing was damaged, the "
        f"commands that read such files refused {refused:,} as no such file and answered the "
        "others, in which what is left is such a document; none ended in a fault of ours."
    )


def _draw_real_checks() -> str:
    found = read("gate_real")
    outcomes = ("pass", "inconclusive", "fail")
    rows = []
    for name, counts in found["counts"].items():
        causes = Counter(
            cause for each in found["checks"][name] for cause in {*each["causes"].values()}
        )
        told = ", ".join(f"the {cause} in {count}" for cause, count in causes.items())
        rows.append((name, *(str(counts.get(each, 0)) for each in outcomes), told or "-"))
    return draw_table(["checks", "PASS", "INCONCLUSIVE", "FAIL", "cause named"], rows)


def tell_overhead() -> str:
    """Return what hooks and the start of the command cost."""
    hooks = read("script_hooks")
    parts = [
        f"{each['ratio']:.3f} times a step of {1e3 * each['step_s']:.1f} ms ({each['loop']})"
        for each in hooks
    ]
    watched = tell_range((each["watched_ratio"] for each in hooks), lambda each: f"{each:.3f}")
    times = read("help_time")["times_s"]
    start = statistics.median(times["help"]) / statistics.median(times["import"])
    return f"""* **Hooks in a script**, medians of ratios in turns on a shared machine: where steps are timed {", ".join(parts)}; where each step is watched, as in trials and at the noise, {watched}.
* **Start-up**: `bsadvisor --help` takes {rough_ratio(start)} times the import of typer and rich.

{tell_source("script_hooks", "help_time")}"""
