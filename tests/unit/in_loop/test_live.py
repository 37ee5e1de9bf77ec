"""What a running training's log says of the batch and the rate that would be best now."""

from pathlib import Path

import msgspec
import pytest

from advisor.in_loop.live import Setting, conclude_live
from advisor.in_loop.tell_live import tell_change, tell_headline, tell_line, tell_live
from advisor.noise.log import parse_noise_lines
from advisor.rate.data import Candidate
from advisor.rate.rules import Rule
from tests.unit.in_loop.logs import write_lines


def make_candidates(times):
    return [
        Candidate(
            global_batch_size=size,
            micro_batch_size=size,
            gradient_accumulation_steps=1,
            step_s=step_s,
        )
        for size, step_s in times.items()
    ]


def conclude(text, candidates=(), **base):
    lines = parse_noise_lines(text.encode(), Path("log"))
    return conclude_live(lines, base=Setting(**base), candidates=candidates)


def test_a_noise_scale_far_above_the_batch_doubles_it_now():
    advice = conclude(write_lines([250.0] * 160))
    assert (advice.at_step, advice.steps, advice.change) == (3180, 160, "double")
    assert advice.noise.steps == 128
    assert advice.noise.low < 250.0 < advice.noise.high
    assert advice.best_batch_size == 256
    assert advice.best_rate == pytest.approx(
        Rule("gradient", 32, 0.1).scale(256, advice.noise.noise_scale)
    )
    assert "double it to 64" in tell_change(advice)
    assert tell_headline(advice).answer.startswith("Now best: batch 256, learning rate ")
    assert [point.at_step for point in advice.points] == [260, 790, 1320, 1860, 2390, 2920]


def test_one_that_grows_doubles_it_later():
    scales = [6.0 * (1.0 + 20 * k) ** 0.25 for k in range(160)]  # 45 at the end
    advice = conclude(write_lines(scales))
    assert advice.change == "later"
    assert 3180 < advice.change_at_step < 31800
    assert f"step {advice.change_at_step:,}" in tell_change(advice)


def test_one_near_the_batch_lets_it_stay_and_one_far_below_halves_it():
    assert conclude(write_lines([33.0] * 160)).change == "stay"
    advice = conclude(write_lines([33.0] * 160))
    assert tell_headline(advice).answer == "Stay at batch 32, learning rate 0.1"
    advice = conclude(write_lines([6.0] * 160))
    assert (advice.change, advice.best_batch_size) == ("halve", 8)


def test_too_few_steps_say_how_many_are_missing():
    advice = conclude(write_lines([100.0] * 5))
    assert (advice.noise, advice.change, advice.best_rate) == (None, "unknown", None)
    assert "3 more measured steps" in tell_line(advice)
    assert tell_live(advice).tables == ()


def test_the_batch_is_the_one_of_now():
    text = write_lines([250.0] * 100) + write_lines([250.0] * 40, samples=64, first=2000, seed=1)
    assert conclude(text).now.batch_size == 64


def test_lines_told_from_something_else_do_not_count():
    text = write_lines([9000.0] * 100, estimator="per-example") + write_lines(
        [250.0] * 40, first=2000
    )
    assert conclude(text).noise.high < 2000.0


def test_a_base_pair_and_an_optimizer_that_are_given():
    text = write_lines([250.0] * 160)
    advice = conclude(text, batch_size=16, learning_rate=0.001, optimizer="AdamW")
    assert advice.best_rate == pytest.approx(
        0.001 * (min(256.0, advice.noise.noise_scale) / 16) ** 0.5
    )
    assert conclude(text, optimizer="Unheard").best_rate is None


def test_with_the_time_of_a_step_the_fastest_batch_is_best():
    times = {32: 1.0, 64: 1.9, 128: 3.7, 256: 7.3}  # hardly any gain beyond 32
    advice = conclude(write_lines([250.0] * 160), make_candidates(times))
    expected = min(times, key=lambda size: (1 + advice.noise.noise_scale / size) * times[size])
    assert advice.best_batch_size == expected
    assert "timed" in tell_live(advice).rows[-1].text


@pytest.mark.parametrize(
    ("times", "change", "scale"),
    [
        (
            {32: 1.0, 64: 1.9, 128: 3.7},
            "no doubling",
            250.0,
        ),  # larger batches take as long a sample
        ({32: 1.0, 64: 1.0, 128: 1.0}, "double", 250.0),
        ({16: 0.2, 32: 1.0}, "no doubling", 250.0),  # nothing is known of larger ones
        ({16: 1.0, 32: 1.0, 64: 1.0}, "no halving", 6.0),  # a small step takes as long
        ({16: 0.5, 32: 1.0, 64: 2.0}, "halve", 6.0),
    ],
)
def test_another_batch_is_asked_for_where_its_timed_steps_pay(times, change, scale):
    advice = conclude(write_lines([scale] * 160), make_candidates(times))
    assert tell_change(advice).startswith(change)
    if change == "double":
        assert advice.best_batch_size > 32
    assert tell_headline(advice).answer.startswith("Stay") == (advice.best_batch_size == 32)


def test_a_noise_scale_surely_below_the_batch_is_told_by_its_upper_end():
    """Less noise than none, as samples show it now and then: parts as long as the whole."""
    line = (
        '{{"step": {}, "small_batch_size": 512, "small_sqnorm": 1.0, '
        '"large_batch_size": 1024, "large_sqnorm": {}}}\n'
    )
    advice = conclude("".join(line.format(k, 1.0 + 1e-4 * (k % 3)) for k in range(160)))
    assert (advice.change, advice.best_batch_size) == ("halve", None)
    high = advice.noise.high
    assert 0.0 <= high < 512.0
    assert "at most" in tell_headline(advice).answer
    told = tell_live(advice)
    cells = [cell for row in told.tables[0].rows for cell in row]
    assert not [text for text in (*cells, *(row.text for row in told.rows)) if "-0" in text]
    assert all(row[1].startswith("≤") for row in told.tables[0].rows)


def test_what_is_not_known_is_told_as_such():
    known = conclude(write_lines([250.0] * 160))
    noise = msgspec.structs.replace(known.noise, noise_scale=None, low=None, high=None)
    advice = msgspec.structs.replace(known, noise=noise, change="unknown", best_batch_size=None)
    assert tell_change(advice) == "not known yet"
    assert tell_headline(advice).answer.endswith("at step 3,180: the samples are too few")
    assert tell_line(advice).endswith("; not known yet")


def test_a_doubling_beyond_ten_times_the_steps_so_far_is_not_foreseen():
    slow = conclude(write_lines([20.0 * (1.0 + k / 160) ** 0.3 for k in range(160)]))
    assert (slow.change, slow.change_at_step) == ("stay", None)
    assert tell_change(slow).startswith("no doubling in sight")
