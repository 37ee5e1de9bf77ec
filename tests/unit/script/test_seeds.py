"""Another start of a script has other seeds, however the script sets them."""

import random

import pytest

from advisor.training.script.hooks import _shift


@pytest.mark.parametrize("call", [lambda seed: seed(5), lambda seed: seed(a=5)])
def test_a_seed_is_moved_by_place_and_by_name(call):
    generator = random.Random()
    call(_shift(generator.seed, 3))
    assert generator.random() == random.Random(8).random()


def test_what_is_no_number_stays_and_the_largest_begins_again():
    seen = []
    seed = _shift(seen.append, 3)
    seed("text")
    seed(None)
    seed(2**32 - 1)
    assert seen == ["text", None, 2]
