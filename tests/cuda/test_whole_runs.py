"""The whole command on pretended cards: nothing in it fails that a card would not let fail."""

import json
import subprocess
import sys

import pytest

from tests.cuda.conftest import MODELS

GIB = 1 << 30


@pytest.fixture
def probe(cards, tmp_path):
    """A function: a model goes in, the document of a short probe comes out."""

    def run(model, *options, **settings):
        cards(**settings)
        command = [sys.executable, "-m", "advisor.cli", "probe", str(MODELS / f"{model}.py")]
        done = subprocess.run(
            [*command, "--json", "-", "--quiet", *options],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in {0, 3}, done.stderr
        return json.loads(done.stdout)

    return run


def test_a_file_that_makes_the_card_the_default_device_goes_all_the_way(probe):
    document = probe("default_device", "--budget", "25s", "--max-batch", "64")
    assert document["failures"] == []
    assert document["environment"]["device"]["kind"] == "cuda"
    assert {each["outcome"] for each in document["probes"]} == {"fit"}
    assert document["noise_batches"]
    assert document["soaks"]


def test_a_file_that_chooses_its_card_is_measured_and_told_on_that_card(probe):
    settings = {"cards": 2, "name": "Small,Large", "memory_bytes": f"{2 * GIB},{8 * GIB}"}
    document = probe("chooses_card", "--budget", "5s", "--max-batch", "64", **settings)
    assert document["environment"]["device"]["name"] == "Large"
    assert document["command"]["memory_limit_bytes"] > 7 * GIB
