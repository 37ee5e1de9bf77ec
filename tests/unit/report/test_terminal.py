import io

import msgspec
import pytest
from rich.console import Console, Group

from advisor.advice.batch_table import MAX_ROWS, Row, choose_rows, draw_up_batches, draw_up_few
from advisor.advice.data import Expected, Interval
from advisor.advice.tell import head_run, tell_advice
from advisor.cards.question import KIND as PREDICTION
from advisor.device.data import Counter, Telemetry
from advisor.device.tell import tell_machine
from advisor.engine.budget import TimePlan
from advisor.memory.data import Probe
from advisor.memory.tell import describe_memory
from advisor.noise.data import NoiseConclusion
from advisor.noise.tell import describe_noise
from advisor.questions import RUN
from advisor.rate.data import LearningRate, OptimizerChanges
from advisor.rate.range_stage import KIND as LR_RANGE
from advisor.rate.tell import describe_changes, format_beta
from advisor.report import console as console_report
from advisor.report.console import collect, write_facts
from advisor.report.sources import list_sources
from advisor.report.tables import draw_tables
from advisor.statistics import Estimate
from advisor.throughput.data import Saturation, ThroughputFall
from advisor.throughput.tell import describe_saturation
from tests.given import Derived, GivenConclusions
from tests.unit.doubles import GOLDEN, text_of
from tests.unit.report.sample_run import (
    build_derived,
    build_environment,
    build_race,
    build_recommendation,
    build_record,
    without,
)
from tests.unit.samples import make_candidate

replace = msgspec.structs.replace


def write_report(console, record, derived, **options):
    console_report.write_report(console, RUN, GivenConclusions(record, derived), **options)


def bare(derived):
    """The same conclusions where no part but memory was reached."""
    return without(derived, throughput=None, noise=None, recommendation=None)


def counted(derived):
    """The same conclusions where energy was counted and throughput falls after its peak."""
    curve = derived.throughput
    points = tuple(
        replace(point, energy_per_sample_j=Estimate(joules, 0.9 * joules, 1.1 * joules))
        for point, joules in zip(curve.points, (0.0512, 0.0421, 0.0475), strict=True)
    )
    points = (*points[:2], replace(points[2], samples_per_s=Estimate(8_657.0, 8_560.0, 8_755.0)))
    fall = ThroughputFall(
        peak_micro_batch_size=192,
        micro_batch_size=640,
        slower_fraction=Estimate(0.123, 0.08, 0.166),
    )
    saturation = Saturation(batch_size=192, low=128, high=320, status="retrograde")
    changes = {"cheapest_micro_batch_size": 192, "fall": fall, "saturation": saturation}
    advice = derived.recommendation
    slower = [
        replace(each, step_s=each.global_batch_size / 8_657.0)
        if each.micro_batch_size == 640
        else each
        for each in advice.candidates
    ]
    return without(
        derived,
        throughput=replace(curve, points=points, **changes),
        recommendation=replace(advice, candidates=tuple(slower)),
    )


LACKING = (
    Telemetry(
        session=0,
        counters=(
            Counter(name="slowdown_brake", missing_because="not_supported"),
            Counter(name="sm_clock", missing_because="no_permission"),
            Counter(name="temperature", missing_because="no_permission"),
        ),
    ),
)

RUNS = {
    "report_complete.txt": (build_record(), build_derived()),
    "report_energy.txt": (replace(build_record(), telemetry=LACKING), counted(build_derived())),
    "report_interrupted.txt": (build_record(complete=False), bare(build_derived())),
    "report_nothing.txt": (
        replace(build_record(), workload=None, environment=None, trials=(), elapsed_s=None),
        Derived(),
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_report_at_80_columns_is_the_golden_text(name):
    text = text_of(write_report, *RUNS[name])
    assert max(map(len, text.splitlines())) <= 80
    assert text == (GOLDEN / name).read_text(encoding="utf-8")


def test_the_doctor_at_80_columns_is_the_golden_text():
    text = text_of(write_facts, tell_machine(build_environment()))
    assert text == (GOLDEN / "doctor.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RUNS)
def test_nothing_that_is_missing_is_printed_as_none(name):
    assert "None" not in text_of(write_report, *RUNS[name])


@pytest.mark.parametrize(
    ("kind", "peak", "told"), [("mps", None, 1), ("mps", 9, 0), ("cpu", None, 0)]
)
def test_a_device_without_a_peak_counter_is_named(kind, peak, told):
    record, environment = build_record(), build_environment()
    ran = Probe(
        stage="memory",
        session=0,
        micro_batch_size=8,
        outcome="fit",
        forward_backward_peak_bytes=peak,
    )
    device = replace(environment.device, kind=kind)
    record = replace(record, environment=replace(environment, device=device), probes=(ran,))
    memory = collect(RUN, GivenConclusions(record, build_derived())).rows[0].text
    assert memory.count("peaks not measured: MPS has no peak counter") == told


def test_the_headline_alone_is_one_line():
    text = text_of(write_report, build_record(), build_derived(), headline_only=True)
    assert text == "Train with batch 192 (micro-batch 192 × 1), learning rate 1.41\n"


def test_a_console_without_unicode_gets_ascii():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    write_report(Console(file=stream, width=80), build_record(), build_derived())
    text = stream.buffer.getvalue().decode("ascii")
    assert "micro-batch 192 x 1" in text
    assert "+/-" in text
    assert "?" not in text


def test_a_wide_snippet_is_not_cut():
    advice = replace(build_recommendation(), snippet="x" * 120)
    text = text_of(write_report, build_record(), without(build_derived(), recommendation=advice))
    assert "x" * 120 in text


def test_the_headline_says_what_is_unknown():
    rate = LearningRate(
        value=None, rule="", base_value=None, base_batch_size=None, reason="no base"
    )
    advice = replace(
        build_recommendation(),
        learning_rate=rate,
        gradient_accumulation_steps=2,
        data_parallel_size=4,
        global_batch_size=1536,
    )
    derived = without(build_derived(), recommendation=advice)
    assert head_run(GivenConclusions(build_record(complete=False), derived)).answer == (
        "Train with batch 1,536 (micro-batch 192 × 2 × 4), learning rate not advised "
        "(from an incomplete run)"
    )
    text = text_of(write_report, build_record(complete=False), derived)
    assert "Learning rate  not advised: no base" in text
    assert "The run is incomplete: Ctrl-C." in text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"memory": None}, "no size was seen to fit"),
        ({"throughput": None}, "throughput was not measured"),
        ({"race": None}, "no pair was trained"),
        ({}, "your own batch was not measured, and nothing is advised in its place"),
    ],
)
def test_the_headline_says_why_there_is_no_answer(changes, reason):
    derived = without(build_derived(), recommendation=None, **changes)
    assert head_run(GivenConclusions(build_record(), derived)).answer.endswith(reason)


def test_memory_says_when_the_largest_size_is_not_verified():
    memory = replace(
        build_derived().memory,
        verified=False,
        limited_by="budget",
        smallest_failed=None,
        capacity_bytes=None,
        fixed_bytes=None,
    )
    assert describe_memory(memory) == (
        "largest micro-batch 640, not verified as the largest; the run ended before the search "
        "did; 11 probes, 4 out of memory"
    )
    assert describe_memory(replace(memory, max_micro_batch_size=None)).startswith("no micro-batch")


@pytest.mark.parametrize(
    ("saturation", "text"),
    [
        (
            Saturation(batch_size=64, low=48, high=96, status="saturated"),
            "from batch 64 (48 to 96) on, larger ones are at most 5 % faster",
        ),
        (
            Saturation(
                batch_size=None, low=64, high=None, status="memory_limited", needed_batch_size=1200
            ),
            "not reached: memory ends first; the fitted law puts its end at about 1,200",
        ),
        (
            Saturation(batch_size=None, low=None, high=None, status="host_bound"),
            "the host, not the device, limits throughput",
        ),
        (
            Saturation(batch_size=64, low=None, high=None, status="retrograde"),
            (
                "the largest batches are slower than smaller ones; "
                "from batch 64 on, larger ones are at most 5 % faster"
            ),
        ),
        (
            Saturation(batch_size=None, low=None, high=None, status="inconclusive"),
            "inconclusive; fewer than three sizes or two sessions were timed: raise --budget",
        ),
    ],
)
def test_saturation_says_why_the_curve_ends(saturation, text):
    assert describe_saturation(saturation) == text


@pytest.mark.parametrize(
    ("noise", "text"),
    [
        (
            NoiseConclusion(status="not_estimated", reason="there is no dataset"),
            "not estimated: there is no dataset",
        ),
        (
            NoiseConclusion(
                status="lower_bound",
                reason="too few samples",
                noise_scale=Estimate(None, 31.0, None),
            ),
            "≥ 31.0 samples (95 %); its upper end is unknown; too few samples",
        ),
        (
            NoiseConclusion(
                status="estimated",
                reason="",
                noise_scale=Estimate(57.0, 31.0, 120.0),
                preconditioned_noise_scale=Estimate(80.0, 60.0, 110.0),
            ),
            (
                "80.0 (60.0 to 110) samples, 95 % interval, in the optimizer's own metric; "
                "plain gradients: 57.0 (31.0 to 120)"
            ),
        ),
    ],
)
def test_noise_is_an_estimate_a_bound_or_a_reason(noise, text):
    assert describe_noise(noise) == text


@pytest.mark.parametrize(
    ("beta", "text"), [(0.9, "0.9"), (0.999, "0.999"), (0.98765, "0.9877"), (0.99991, "0.99991")]
)
def test_decay_rates_keep_their_distance_from_one(beta, text):
    assert format_beta(beta) == text


def test_settings_and_gains_that_are_unknown_are_left_out():
    assert describe_changes(OptimizerChanges()) == ""
    advice = replace(build_recommendation(), expected=Expected())
    derived = without(build_derived(), recommendation=advice)
    rows = tell_advice(GivenConclusions(build_record(), derived)).rows
    assert "Expected" not in [row.label for row in rows]
    advice = replace(advice, interval=Interval(low=None, high=None))
    derived = without(build_derived(), recommendation=advice)
    assert "Near-best" not in text_of(write_report, build_record(), derived)


def test_a_long_table_keeps_the_marked_and_the_measured_rows():
    many = tuple(
        replace(build_recommendation().candidates[1], global_batch_size=n, micro_batch_size=n)
        for n in range(1_000, 1_040)
    )
    advice = build_recommendation()
    advice = replace(advice, candidates=advice.candidates + many)
    derived = without(build_derived(), recommendation=advice)
    rows = choose_rows(GivenConclusions(build_record(), derived))
    sizes = [row.candidate.global_batch_size for row in rows]
    assert len(rows) == MAX_ROWS
    assert sizes == sorted(sizes)
    assert {32, 192, 640} <= set(sizes)
    assert [row.mark for row in rows if row.mark] == ["b", ">"]


def test_the_advised_row_has_the_time_of_the_headline():
    race = build_race()
    luckier = replace(race.winner, learning_rate=1.0, standing="ahead", log_ratio=-3.0)
    derived = without(build_derived(), race=replace(race, pairs=(*race.pairs, luckier)))
    rows = choose_rows(GivenConclusions(build_record(), derived))
    (advised,) = (row for row in rows if row.mark == ">")
    assert advised.trial == race.winner


def test_the_energy_has_a_column_only_where_it_is_known():
    assert "J/sample" not in text_of(write_report, build_record(), build_derived())
    derived = counted(build_derived())
    rows = choose_rows(GivenConclusions(build_record(), derived))
    table = draw_up_batches(rows, sample_unit="sample")
    column = [each.header for each in table.columns].index("J/sample")
    known = {cells[1]: cells[column] for cells in table.rows}
    assert known["192"] == "0.0421"
    assert known["1,280"] == "-"


def test_the_widest_table_with_energy_keeps_to_80_columns_and_to_its_figures():
    point = replace(
        build_derived().throughput.points[0],
        samples_per_s=Estimate(1_230_000.0, 1_218_000.0, 1_242_000.0),
        energy_per_sample_j=Estimate(0.000123, None, None),
        peak_bytes=None,
    )
    lawful = replace(point, predicted_peak_bytes=1.23 * 2**30)
    candidate = make_candidate(32_768, 4, 0.1)
    rows = (
        Row(">b", candidate, point),
        Row(">b", replace(candidate, relative_time=1.0), lawful),
        Row(">b", candidate, replace(point, peak_bytes=2**30)),
    )
    table = draw_up_batches(rows, sample_unit="sample")
    text = text_of(lambda console: console.print(Group(*draw_tables([table]))))
    assert max(map(len, text.splitlines())) <= 80
    for figure in ("131,072", "32768 × 4", "~ 1.23 GiB", "1,230,000 ± 12,000", "0.000123"):
        assert figure in text
    assert "not measured" in text


@pytest.mark.parametrize(
    ("kind", "text"),
    [(RUN, "0 probes in 1.00 s"), (LR_RANGE, "0 curves in 1.00 s"), (PREDICTION, "1.00 s")],
)
def test_the_run_is_told_by_what_its_command_counts(kind, text):
    base = build_record()
    record = kind.record_type(
        tool_version="0.1.0", created_at="then", complete=True, elapsed_s=1.0, command=base.command
    )
    assert list_sources(kind, record)[-1].text == f"{text}; then; bsadvisor 0.1.0"


def test_a_run_too_short_for_an_answer_says_how_long_it_takes():
    plan = TimePlan(
        start_s=2.0, step_s=10.0, needs_s={}, shares_s={}, needed_s=2160.0, budget_s=60.0
    )
    short = replace(build_record(), time_plan=plan)
    text = text_of(write_report, short, bare(build_derived()))
    assert "Raise --budget: this model takes about 36 min 0 s." in text
    enough = replace(build_record(), time_plan=replace(plan, budget_s=2160.0))
    assert "Raise --budget: this model" not in text_of(write_report, enough, bare(build_derived()))


def test_the_loop_has_a_column_only_where_it_is_slower_than_the_steps():
    derived = build_derived()

    def draw(factor):
        advice = derived.recommendation
        slower = [replace(each, step_s=factor * each.step_s) for each in advice.candidates]
        advice = replace(advice, candidates=tuple(slower))
        changed = without(derived, recommendation=advice)
        rows = choose_rows(GivenConclusions(build_record(), changed))
        table = draw_up_batches(rows, sample_unit="sample")
        return [column.header for column in table.columns], {row[1]: row for row in table.rows}

    headers, rows = draw(4.0)
    speed, loop = headers.index("samples/s"), headers.index("in your loop")
    assert (rows["192"][speed], rows["192"][loop]) == ("9,870 ± 103", "~ 2,470")
    assert (rows["128"][speed], rows["128"][loop]) == ("not measured", "~ 2,210")
    predicted = set()
    for factor in (1.0, 0.5, 0.1):  # steps that others slow are on average far above their fastest
        headers, rows = draw(factor)
        assert "in your loop" not in headers
        predicted.add(rows["128"][headers.index("samples/s")])
    assert predicted == {"~ 8,830"}  # between those measured beside it


def test_a_speed_that_no_step_had_on_average_is_marked_as_predicted():
    rows = choose_rows(GivenConclusions(build_record(), build_derived()))

    def write(row, factor):
        faster = replace(row.candidate, step_s=factor * row.candidate.step_s)
        table = draw_up_few([row._replace(candidate=faster)], sample_unit="sample")
        return table.rows[0][[each.header for each in table.columns].index("samples/s")]

    (advised,) = (row for row in rows if row.mark == ">")
    assert write(advised, 1.0) == "9,870"
    assert write(advised, 0.25) == "~ 39,500"
    wide = replace(advised.point, samples_per_s=Estimate(9870.0, 1.0, 1e6))
    assert write(advised._replace(point=wide), 0.25) == "~ 39,500"


@pytest.mark.parametrize("factor", [1.0, 0.2])
def test_a_loop_that_seems_faster_than_its_steps_is_said_to_be_undisturbed(factor):
    rows = choose_rows(GivenConclusions(build_record(), build_derived()))
    slow, *others = rows

    def change(row, by):
        candidate = replace(row.candidate, step_s=by * row.candidate.step_s)
        return row._replace(candidate=candidate)

    changed = [change(slow, factor), *(change(row, 4.0) for row in others)]
    table = draw_up_batches(changed, sample_unit="sample")
    assert "samples/s: without loading" in table.legend
    assert ("as if nothing else ran" in table.legend) is (factor < 1.0)
