"""What is known of the noise: its interval, its course, and its cost beside the sharpness's."""

from typing import Any

from committed import (
    draw_table,
    fine_percent,
    percent,
    ratio,
    read,
    rough_ratio,
    tell_range,
    tell_source,
)

from advisor.statistics import Estimate


def tell_coverage() -> str:
    """Return how often the interval holds the known truth."""
    rows = read("noise_coverage")["rows"]
    averages = [row for row in rows if "average" in row["name"]]
    single = [row for row in rows if row not in averages and row["enough"] is None]
    settings = [row for row in single if row["dataset"] == "infinite"]
    whole = [row for row in single if row["samples"] == row["dataset_size"]]
    biases = [
        abs(row[f"{part}_bias_fraction"])
        for row in settings
        for part in ("cov_trace", "gradient_sqnorm")
    ]
    held = tell_range(_list_coverage(settings), percent)
    wanted = Estimate(None, None, None).confidence
    return f"""Over at least {min(row["seeds"] for row in settings)} seeds each, on Gaussian regression with known truth, the interval held the truth in {held} of cases ({len(settings)} settings: plain and preconditioned, ragged, summed, accumulated, heavy-tailed, tokens, logs), where {percent(wanted)} is wanted; tr Σ and |G|² were biased by {fine_percent(max(biases))} at most. Where the samples are the whole dataset the interval is too wide ({tell_range(_list_coverage(whole), percent)}). Averaged along a trajectory it held the truth in {tell_range(_list_coverage(averages), percent)}.

{tell_source("noise_coverage")}"""


def tell_sketches() -> str:
    """Return how often the interval holds where sums of gradients are sketches."""
    found = read("noise_sketches")
    rows = found["rows"]
    sketched = [row for row in rows if row["sketch_length"]]
    whole = [row for row in rows if row not in sketched]
    shortest = min(row["sketch_length"] for row in sketched)
    errors = [
        row["median_error_against_whole_rows_fraction"]
        for row in sketched
        if row["sketch_length"] == shortest
    ]
    lengths = ", ".join(str(each) for each in sorted({row["sketch_length"] for row in sketched}))
    return f"""Sums of gradients that fit nowhere are kept as sketches, of {found["length_in_a_run"]} numbers each in a run. With far fewer, {lengths} for {rows[0]["parameters"]} parameters, the interval held the known noise scale in {tell_range(_list_coverage(sketched), percent)} of cases, with whole rows in {tell_range(_list_coverage(whole), percent)} ({len(whole)} settings, {rows[0]["seeds"]} seeds each). The shortest are off by {tell_range(errors, fine_percent)} in tr Σ.

{tell_source("noise_sketches")}"""


def _list_coverage(rows: list[Any]) -> list[float]:
    return [row["coverage_fraction"] for row in rows]


def tell_course() -> str:
    """Return the error of the noise scale along trainings."""
    rows = [row for row in read("noise_along_training")["rows"] if row["iterates"]]
    many = [row for row in rows if row["iterates"] == max(each["iterates"] for each in rows)]
    few = [row for row in rows if row not in many]
    coverage = _list_coverage(many)
    means = tell_range((row["mean_log_error"] for row in many), percent)
    return f"""Against exact per-sample gradients at every step of three trainings the noise scale of the run was off by {tell_range((row["rms_log_error"] for row in many), percent)} (rms of {many[0]["seeds"]} measurements each, mean {means}), and its interval held the exact value in {percent(sum(coverage) / len(coverage))} ({tell_range(coverage, percent)} each). With {few[0]["iterates"]} iterates, as a model of slow steps has, it is off by {tell_range((row["rms_log_error"] for row in few), percent)}.

{tell_source("noise_along_training")}"""


def tell_cost() -> str:
    """Return the cost of passes for noise and sharpness."""
    passes, eigenvalues = read("noise_cost"), read("sharpness")["eigenvalues"]
    error = max(abs(each["error_fraction"]) for each in eigenvalues)
    products = tell_range((each["products"] for each in eigenvalues), str)
    apart = [each for each in read("per_sample")["models"] if each.get("cost_ratio")]
    costs = tell_range((each["cost_ratio"] for each in apart), rough_ratio)
    return f"""* **Noise pass**: {tell_range((each["ratio"] for each in passes), ratio)} times plain forward and backward for each micro-batch, on {len(passes)} examples. Gradients of single samples would cost {costs} times as much on a CPU, which is why they are not used.
* **Sharpness**: within {error:.0e} of the converged eigenvalue after {products} products of the Hessian, on three examples, plain and in Adam's metric; a product takes {tell_range((each["product_ratio"] for each in eigenvalues), rough_ratio)} times a forward and backward.

{tell_source("noise_cost", "per_sample", "sharpness")}"""


def tell_monitor() -> str:
    """Return what a monitor of a running training costs, and how near its value is."""
    loops, found = read("monitor_cost")["loops"], read("monitor_value")
    rows = found["rows"]
    costs = draw_table(
        [
            "loop",
            "told from",
            "one step in",
            "blocks of so many",
            "two blocks without",
            "what one adds, over so many",
        ],
        [
            [
                loop["loop"],
                loop["estimator"],
                f"{loop['every']:.0f}",
                *(
                    _tell_overhead(loop[name], loop[f"{name}_interval"])
                    for name in ("ratio", "without_ratio", "resolved_ratio")
                ),
            ]
            for loop in loops
        ],
    )
    values = draw_table(
        ["training", "told from", "within the frozen interval", "value over it"],
        [
            [
                row["setting"],
                row["estimator"],
                percent(row["held_fraction"]),
                ratio(row["median_ratio"]),
            ]
            for row in rows
        ],
    )
    return f"""`NoiseScaleMonitor` at the interval that it chooses, in turns with the same loop without it: processor time over that without, the median over turns with its interval. Neighbours on this machine move single blocks by some per cent, more than the hundredth that is wanted: two blocks without a monitor differ by the column beside. What one measured step adds is told in short blocks as well, and divided by the steps that it is one of:

{costs}

Its value beside a measurement at the parameters that were frozen in the middle of its window, over {rows[0]["seeds"]} seeds; {percent(found["target_fraction"])} is wanted where the parameters stay. While a network trains, its window is an average over what changes:

{values}
{_tell_layers(found.get("transformer", []))}
{tell_source("monitor_cost", "monitor_value")}"""


def _tell_overhead(value: float, interval: list[float]) -> str:
    """Return a ratio near one, with its interval."""
    return f"{_thousandth(value)} ({tell_range(interval, _thousandth)})"


def _thousandth(value: float) -> str:
    return f"{value:.3f}"


def _tell_layers(spans: list[Any]) -> str:
    """Return how the normalisation layers' noise scale compares with that of all."""
    if not spans:
        return ""
    ratios = [s["layers"][0] / s["whole"][0] for s in spans if s["layers"][0] and s["whole"][0]]
    return f"""
In a small transformer the noise scale of the normalisation layers, by single examples, was {tell_range(ratios, ratio)} times that of the whole gradient, by micro-batches, in {len(spans)} spans along training.
"""
