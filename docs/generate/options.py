"""Write docs/options.md from the command line's own code: `python docs/generate/options.py`."""

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer

from advisor.cli import app

PAGE = Path(__file__).resolve().parent.parent / "options.md"
HEAD = """# Commands and options

Generated from the code by `docs/generate/options.py`; `bsadvisor COMMAND --help` says the same.

An option may be given in three ways: as a flag, as its environment variable, or as a key of `[tool.bsadvisor]` in the nearest `pyproject.toml` (`memory-limit = "10GiB"`). A flag beats the variable, which beats the file. Durations are written as `90s`, `2m` or `1h`, sizes as `512MiB` or `10GiB`. Results go to stdout, everything else to stderr. [What files and exit codes mean](contract.md).
"""


def write_page() -> str:
    """Return the page: a section for each command, with a table of its options."""
    return "\n".join([HEAD, *_list_sections(typer.main.get_command(app), "bsadvisor")])


def _list_sections(command: Any, name: str) -> Iterator[str]:
    for part, below in getattr(command, "commands", {}).items():
        yield from _list_sections(below, f"{name} {part}")
    if not hasattr(command, "commands"):
        yield _write_section(command, name)


def _write_section(command: Any, name: str) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    types = get_type_hints(command.callback)
    usage = " ".join([name, *(each.metavar for each in arguments)])
    parts = [f"## `{name}`", f"`{usage}`", "\n".join(command.help.splitlines()).strip()]
    if arguments:
        parts += ["\n".join(f"* `{each.metavar}`: {_plain(each.help)}" for each in arguments)]
    if options:
        rows = [_write_row(each, types[each.name]) for each in options]
        head = ["| option | meaning | default | environment |", "|---|---|---|---|"]
        parts += ["\n".join([*head, *rows])]
    return "\n\n".join(parts) + "\n"


def _write_row(option: Any, kind: Any) -> str:
    metavar = "" if option.is_flag else f" {_name_value(option, kind)}"
    names = ", ".join([*sorted(option.opts, key=len), *option.secondary_opts])
    cells = (
        _code(f"{names}{metavar}"),
        _plain(option.help),
        _tell_default(option),
        _code(str(option.envvar)),
    )
    return f"| {' | '.join(cells)} |"


def _name_value(option: Any, kind: Any) -> str:
    if option.metavar:
        return str(option.metavar)
    choices = [each for each in (kind, *get_args(kind)) if get_origin(each) is Literal]
    return "|".join(get_args(choices[0])) if choices else "N"


def _tell_default(option: Any) -> str:
    if isinstance(option.show_default, str):
        return _plain(option.show_default)
    if option.is_flag or option.default in (None, (), []):
        return ""
    return _code(str(option.default))


def _code(text: str) -> str:
    """Return code that may hold a bar, which Markdown's tables spell in different ways."""
    return f"<code>{_plain(text)}</code>"


def _plain(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "&#124;").replace("*", "\\*")


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
