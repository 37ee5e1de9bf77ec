"""Whether a file is a script, and what is asked of it."""

import pytest

from advisor.cli.options import Training
from advisor.cli.script import make_script, read_workload, spread_model_file
from advisor.errors import UsageError
from advisor.training.data import Variant
from advisor.training.script.arguments import Filling, fill

_TRAINS = "loss.backward()\noptimizer.step()\nparser.add_argument('--bsz-batch', type=int)\n"


def make(path, arguments=None, *, ranks=1, **more):
    return make_script(Training(model=str(path), arguments=arguments, **more), ranks)


@pytest.fixture
def write(tmp_path):
    def write_file(text):
        path = tmp_path / "train.py"
        path.write_text(text)
        return path

    return write_file


def test_a_file_that_trains_and_has_no_name_of_a_model_file_is_a_script(write):
    assert make(write("def make_model(): ...\n")) is None
    assert make(write(f"def make_dataset(): ...\n{_TRAINS}")) is None
    with pytest.raises(UsageError, match="nothing tells it which batch"):
        make(write(_TRAINS))


def test_the_line_to_type_has_the_scripts_own_option(write):
    with pytest.raises(UsageError) as error:
        make(write(_TRAINS), ["--epochs", "3"])
    assert "-- --epochs 3 --bsz-batch {batch_size}" in error.value.next_step


@pytest.mark.parametrize("typed", [["--bsz-batch", "32"], ["--bsz-batch=32"]])
def test_the_line_to_type_has_the_placeholder_in_place_of_a_batch_that_was_given(write, typed):
    with pytest.raises(UsageError) as error:
        make(write(_TRAINS), ["--epochs", "3", *typed])
    said = error.value.next_step.splitlines()[0]
    assert said.endswith("--epochs 3 " + " ".join(typed).replace("32", "{batch_size}"))


def test_constants_are_told_by_the_environment(write):
    script = make(write(f"import os\nsize = os.environ['BSADVISOR_BATCH_SIZE']\n{_TRAINS}"))
    assert script.arguments == ()


def test_a_model_file_on_ranks_is_started_as_a_script_that_trains_it():
    variant = Variant(precision="bf16", compile=True)
    training = Training(model="m{1}.py", settings=["width=8"], seed=3)
    script = spread_model_file(training, variant, "fsdp", 4, None)
    assert script.launch == ("--standalone", "--nproc-per-node=4")
    assert (script.ranks, script.model_file) == (4, "m{1}.py")
    filled = fill(script.arguments, Filling(batch_size=8, learning_rate=0.5))
    assert filled == [
        *("m{1}.py", "--strategy", "fsdp", "--seed", "3", "--precision", "bf16", "--compile"),
        *("--set", "width=8", "--batch-size", "8", "--learning-rate", "0.5"),
    ]


def test_ranks_are_started_as_torchrun_does(write):
    script = make(write(_TRAINS), ["{batch_size}"], ranks=4, batch_size_is="global")
    assert (script.ranks, script.batch_is_global) == (4, True)
    assert script.launch == ("--standalone", "--nproc-per-node=4")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"precision": "bf16"}, "--precision"),
        ({"compile_model": "on", "settings": ["width=8"]}, "--compile and --set"),
    ],
)
def test_no_command_takes_an_option_that_a_script_would_not_hear_of(write, options, named):
    path = write(_TRAINS)
    training = Training(model=str(path), arguments=["{batch_size}"], **options)
    with pytest.raises(UsageError, match=f"^{named}: a script trains in its own way"):
        read_workload(training)
    path.write_text("def make_model(): ...\n")
    settings = read_workload(Training(model=str(path), **options))
    assert settings.script is None
