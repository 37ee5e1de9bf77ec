"""What is known of memory: the largest batch, predictions for other cards, the trace."""

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


def tell_largest() -> str:
    """Return our search beside those of others."""
    result = read("memory_limits")
    rows = [
        (
            each["peer"],
            f"{rough_ratio(each['trials_mean'])} ({each['trials_max']})",
            f"{ratio(each['failures_mean'])} ({each['failures_max']})",
            f"{each['within_granule']} of {each['answered']}"
            + (f", {each['above_maximum']} above" if each["above_maximum"] else ""),
            ratio(each["share_mean"]),
        )
        for each in result["summaries"]
    ]
    ours = result["summaries"][0]
    models = {cell["model"] for cell in result["cells"]}
    double = [cell for cell in result["cells"] if len(cell["maxima"]) > 1]
    apart = max(cell["maxima"][-1] / cell["maxima"][0] - 1 for cell in double)
    header = [
        "search",
        "probes or steps, mean (most)",
        "out of memory, mean (most)",
        "at a maximum, or a granule below",
        "mean share of the largest",
    ]
    return f"""{len(models)} models under three limits on the CPU against exhaustive search, all tools in the same run under the same limit ({ours["cells"]} cells; *of* counts those with an answer):

{draw_table(header, rows)}

In {len(double)} of the cells fitting is not monotone and there is a second maximum, {percent(apart)} higher, which a search that relies on order cannot know of.

{tell_source("memory_limits")}"""


def tell_prediction() -> str:
    """Return predictions beside what others measured."""
    result = read("memory_prediction")
    perceptrons, vision = result["perceptrons"], result["vision"]
    bare = result["vision_without_workspaces"]
    cost = read("predict_cost")[0]
    return f"""Against {perceptrons["rows"]} perceptrons measured by others on an {result["gpu"]} the median error is {perceptrons["median_mib"]:.0f} MiB; against {vision["rows"]} runs of image models {fine_percent(vision["median_fraction"])} with an estimate of cuDNN's workspaces and {fine_percent(bare["median_fraction"])} without, nine in ten within {percent(vision["p90_fraction"])}, which is the interval printed. See [memory.md](memory.md).

A prediction with all what-ifs takes {cost["elapsed_s"]:.0f} s for a language model of {cost["parameters"] / 1e6:.0f} million parameters and three GPUs, and {cost["peak_bytes"] / 2**30:.1f} GiB of memory.

{tell_source("memory_prediction", "predict_cost")}"""


def tell_table() -> str:
    """Return predictions and searches beside torch's own allocator, on pretended cards."""
    result = read("memory_table")
    cells, searches = (
        [row for row in result[part] if "error" not in row] for part in ("cells", "searches")
    )
    kinds = list(dict.fromkeys(row["kind"] for row in cells))
    lines = []
    for kind in kinds:
        mine = [row for row in cells if row["kind"] == kind]
        errors = [
            max(mine, key=lambda row: abs(row[name]))[name]
            for name in ("allocated_error_fraction", "reserved_error_fraction")
        ]
        lines.append((kind, str(len(mine)), *(f"{100 * error:+.1f} %" for error in errors)))
    held = [
        (percent(float(name.split("_")[2])), percent(share))
        for name, share in result["summary"].items()
        if "_within_" in name
    ]
    missing = [row["kind"] for row in result["cells"] if "error" in row]
    left_out = f" Not measured: {', '.join(missing)}." if missing else ""
    searched = ""
    if searches:
        mean = {
            name: sum(row[name] for row in searches) / len(searches) for name in ("probes", "ooms")
        }
        holding = [row for row in searches if row["holds_in_a_loop"]]
        shares = [row["answer"] / row["largest_in_a_loop"] for row in holding]
        exact = sum(share == 1.0 for share in shares)
        cut = sum(row["method"] == "affine" for row in searches)
        led = f" In {cut} of them the probes alone led." if cut else ""
        searched = f""" The search took {rough_ratio(mean["probes"])} probes and {rough_ratio(mean["ooms"])} out-of-memory errors on average; its answer held in such a loop in {len(holding)} of {len(searches)} cells, was the largest that did in {exact}, and {tell_range(shares, ratio)} of it over all of these.{led}"""
    return f"""On pretended cards, whose allocator is torch's own and whose kernels do nothing: the peaks predicted from a trace beside those of a loop with fresh batches and held outputs, over precisions, optimizers and two cards ({len(cells)} cells). Allocated is within {held[0][0]} in {held[0][1]} of the cells, reserved within {held[1][0]} in {held[1][1]}.{searched}{left_out}

{draw_table(["model", "cells", "allocated, furthest off", "reserved, furthest off"], lines)}

{tell_source("memory_table")}"""


def tell_large() -> str:
    """Return what a large model takes of the host."""
    result = read("large_model")
    rows = [
        (command, rough_ratio(row["most_pss_gib"]), rough_ratio(row["most_rss_gib"]))
        for command, row in result.items()
    ]
    return f"""Host memory of all processes of a command at once, at most, for a language model of a billion parameters on a pretended card. *Shared counted once* is the kernel's proportional set size.

{draw_table(["command", "GiB, shared counted once", "GiB, each process by itself"], rows)}

{tell_source("large_model")}"""


def tell_trace() -> str:
    """Return how exact the trace is."""
    rows = read("trace_exactness")
    sizes = " and ".join(map(str, rows[0]["compared_sizes"]))
    equal = sum(row["equal"] for row in rows)
    residual = [row["allocator_peak_over_trace"] for row in rows if "residual" in row["model"]]
    others = [row["allocator_peak_over_trace"] for row in rows if "residual" not in row["model"]]
    fine = tell_range(others, lambda value: f"{value:.3f}")
    return f"""Event by event and byte by byte the trace, at sizes that it was not taken at ({sizes} samples), is that of a real run on the CPU in {equal} of {len(rows)} rows. The peak that torch's own profiler saw was {fine} times the trace's, and {tell_range(residual, ratio)} times on the residual network (scratch memory inside of operators, which no trace sees).

{tell_source("trace_exactness")}"""


def tell_search() -> str:
    """Return the simulated search."""
    parts = {row["search"]: row for row in read("memory_search")["rows"] if row["part"] == "all"}
    law, guided = parts["by the law"], parts["guided"]
    return f"""Simulated over six models, three capacities and unmodelled memory: {rough_ratio(law["probes_mean"])} probes and {rough_ratio(law["ooms_mean"])} out-of-memory errors on average, never above {law["probes_max"]} and {law["ooms_max"]}; {percent(law["verified_fraction"])} of the answers were verified, the others were up to {fine_percent(law["shortfall_max_fraction"])} low, {law["above_truth"]} too large. With a trace it takes {rough_ratio(guided["probes_mean"])} probes and {rough_ratio(guided["ooms_mean"])} errors, and {percent(guided["verified_fraction"])} are verified.

{tell_source("memory_search")}"""
