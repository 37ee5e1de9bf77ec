import typing

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from advisor.cli import app
from advisor.cli.variants import parse_variant, parse_variants, spell_out_compile
from advisor.training.data import Variant
from advisor.variants.data import VARIANTS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fp32", ("fp32",)),
        ("bf16,fp32", ("bf16", "fp32")),
        (" FP32 , tf32,bf16,fp16", ("fp32", "tf32", "bf16", "fp16")),
    ],
)
def test_precisions_keep_their_order(text, expected):
    variants = parse_variants(text, "off")
    assert tuple(each.precision for each in variants) == expected


@pytest.mark.parametrize("text", ["", "fp8", "fp32,", "fp32 bf16", "fp32,fp32"])
def test_an_unknown_or_repeated_precision_is_refused(text):
    with pytest.raises(typer.BadParameter):
        parse_variants(text, "off")


def test_a_command_of_one_precision_refuses_several():
    assert parse_variant("bf16") == Variant(precision="bf16")
    with pytest.raises(typer.BadParameter, match="takes one"):
        parse_variant("bf16,fp32")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("on", (True,)),
        ("off", (False,)),
        ("True", (True,)),
        ("0", (False,)),
        ("off,on", (False, True)),
        ("on, off", (True, False)),
    ],
)
def test_compile_takes_one_state_or_both(text, expected):
    variants = parse_variants("fp32", text)
    assert tuple(each.compile for each in variants) == expected


@pytest.mark.parametrize("text", ["", "both", "on,on", "1,true", "off,on,off"])
def test_an_unknown_or_repeated_state_is_refused(text):
    with pytest.raises(typer.BadParameter):
        parse_variants("fp32", text)


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (["m.py", "--compile"], ["m.py", "--compile=on"]),
        (["--compile", "m.py"], ["--compile=on", "m.py"]),
        (["--compile", "--seed", "1"], ["--compile=on", "--seed", "1"]),
        (["--compile", "off,on", "m.py"], ["--compile", "off,on", "m.py"]),
        (["--compile=off,on"], ["--compile=off,on"]),
        (["--no-compile", "m.py"], ["--compile=off", "m.py"]),
        (["--", "--compile"], ["--", "--compile"]),
        ([], []),
    ],
)
def test_compile_may_stand_without_a_value(typed, read):
    assert spell_out_compile(typed) == read


def test_every_combination_is_there_the_first_of_both_first():
    variants = parse_variants("fp32,bf16", "off,on")
    assert [(one.precision, one.compile) for one in variants] == [
        ("fp32", False),
        ("fp32", True),
        ("bf16", False),
        ("bf16", True),
    ]


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What `probe` hands to its session, which then is not run."""
    import os

    for name in [name for name in os.environ if name.startswith("BSADVISOR_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    seen = []

    def execute(kind, spec, *, asked, **_others: typing.Any):
        seen.append((spec, dict(asked)[VARIANTS]))
        raise KeyboardInterrupt

    monkeypatch.setattr("advisor.engine.command.execute", execute)

    def ask(*arguments, **environment):
        ended = CliRunner().invoke(app, ["probe", "m.py", *arguments], env=environment)
        if not seen:
            return ended
        spec, variants = seen.pop()
        first = (spec.workload.precision, spec.workload.compile)
        return [(one.precision, one.compile) for one in variants] or [first]

    return ask


def test_the_first_variant_is_the_workloads_own_and_the_others_are_compared(asked):
    assert asked() == [("fp32", False)]
    assert asked("--compile") == [("fp32", True)]
    assert asked("--no-compile") == [("fp32", False)]
    assert asked("--precision", "bf16,fp32") == [("bf16", False), ("fp32", False)]
    assert asked("--compile", "off,on", "--precision", "bf16") == [("bf16", False), ("bf16", True)]


def test_variants_come_from_the_environment_and_the_project_file_as_well(asked, tmp_path):
    variables = {"BSADVISOR_PRECISION": "fp32,bf16", "BSADVISOR_COMPILE": "1"}
    assert asked(**variables) == [("fp32", True), ("bf16", True)]
    project = tmp_path / "pyproject.toml"
    project.write_text('[tool.bsadvisor]\nprecision = ["bf16", "tf32"]\ncompile = true\n')
    assert asked() == [("bf16", True), ("tf32", True)]
    assert asked("--no-compile", "--precision", "fp32") == [("fp32", False)]
    project.write_text('[tool.bsadvisor]\nprecision = "fp16"\ncompile = [false, true]\n')
    assert asked() == [("fp16", False), ("fp16", True)]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--precision", "fp32,fp8"],
        ["--precision", "bf16,bf16"],
        ["--compile=maybe"],
        ["--compile=on,on"],
    ],
)
def test_a_wrong_list_is_a_usage_error_that_names_the_option(asked, arguments):
    ended = asked(*arguments)
    assert ended.exit_code == 2
    assert arguments[0].partition("=")[0] in ended.stderr
    assert ended.stdout == ""


def test_predict_takes_one_precision_alone(asked):
    ended = CliRunner().invoke(
        app, ["predict", "m.py", "--gpu-memory", "1GiB", "--precision", "fp32,bf16"]
    )
    assert ended.exit_code == 2
    assert "takes one" in " ".join(ended.stderr.split())


def test_the_variants_of_a_spec_are_values():
    first, second = parse_variants("fp32", "off") * 2
    assert first == second
    assert msgspec.to_builtins(first) == {"precision": "fp32", "compile": False}
