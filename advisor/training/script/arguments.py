"""The command line of the user's script, with placeholders that are filled in for each start."""

import re
import shlex
from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import asdict

from advisor.errors import UsageError
from advisor.training.data import Script

#: `{{`, `}}`, `{name}` or `{name=default}`.
_TOKEN = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)(?:=([^{}]*))?\}")


class Filling(msgspec.Struct, frozen=True, kw_only=True):
    """What one start of the script is told; None leaves the script's own."""

    batch_size: int | None = None
    accumulation: int | None = None
    learning_rate: float | None = None
    seed: int | None = None
    #: After which the start ends, where a schedule is to be stretched over them.
    steps: int | None = None

    def as_text(self) -> dict[str, str]:
        """Return what there is, by name."""
        values = asdict(self).items()
        return {name: f"{value:.9g}" for name, value in values if value is not None}


#: What a script may be told, by the name of its placeholder.
NAMES = Filling.__struct_fields__


def list_placeholders(arguments: Sequence[str]) -> frozenset[str]:
    """Return the names that the arguments ask for; UsageError where one of them is unknown."""
    named = {match[1] for match in _find_placeholders(arguments)}
    unknown = sorted(named.difference(NAMES))
    if unknown:
        raise UsageError(
            f"there is no placeholder {{{unknown[0]}}}",
            next_step=f"Use {', '.join(f'{{{name}}}' for name in NAMES)}; double the braces that "
            "are your script's own.",
        )
    return frozenset(named)


def read_defaults(arguments: Sequence[str]) -> dict[str, str]:
    """Return the defaults that the arguments name, as in `{batch_size=64}`."""
    return {match[1]: match[2] for match in _find_placeholders(arguments) if match[2] is not None}


def _find_placeholders(arguments: Sequence[str]) -> list[re.Match[str]]:
    return [match for each in arguments for match in _TOKEN.finditer(each) if match[1]]


def fill(arguments: Sequence[str], filling: Filling) -> list[str]:
    """Return the arguments with each placeholder filled in, by its own default where it has one.

    What has neither is left out with its option, so that the script's own default holds.

    Raises:
        UsageError: An argument without a value stands for itself and cannot be left out.
    """
    values, filled = filling.as_text(), list[str]()
    for argument in arguments:
        text = _fill_one(argument, values)
        if text is not None:
            filled.append(text)
        elif argument.startswith("-") or "=" in argument.partition("{")[0]:
            continue  # --batch-size={batch_size}, trainer.batch={batch_size}
        elif filled and filled[-1].startswith("-"):
            filled.pop()
        else:
            raise UsageError(
                f"the argument {argument} has no value that is your script's own",
                next_step="Give it one, as in {batch_size=64}.",
            )
    return filled


def _fill_one(argument: str, values: Mapping[str, str]) -> str | None:
    """Return the argument, None where a placeholder in it has no value."""
    is_missing, doubled = False, 0

    def replace(match: re.Match[str]) -> str:
        nonlocal is_missing, doubled
        name, default = match[1], match[2]
        if name is None:
            if match[0] == "}}" and not doubled:
                return match[0]  # none were opened so: the end of JSON, say
            doubled += 1 if match[0] == "{{" else -1
            return match[0][0]
        value = values.get(name, default)
        is_missing |= value is None
        return value or ""

    text = _TOKEN.sub(replace, argument)
    return None if is_missing else text


def fill_batch(script: Script, samples: int, accumulation: int = 1) -> Filling:
    """Return what tells the script to make its steps of so many samples.

    The samples are of a backward pass; of a step, where the script is not told how to accumulate.
    """
    size = samples * accumulation if script.batch_is_global else samples // script.parts
    takes = "accumulation" in list_placeholders(script.arguments)
    return Filling(batch_size=size, accumulation=accumulation if takes else None)


def write_command(target: str, script: Script, filling: Filling) -> str:
    """Return the script's command line as it would be typed."""
    head = ["python", *(["-m"] if script.is_module else []), target]
    return shlex.join([*head, *fill(script.arguments, filling)])


def list_variables(filling: Filling) -> dict[str, str]:
    """Return the environment variables that tell a script with constants the same."""
    return {f"BSADVISOR_{name.upper()}": value for name, value in filling.as_text().items()}
