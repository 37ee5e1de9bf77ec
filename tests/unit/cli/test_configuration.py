import pytest

from advisor.cli.configuration import read_defaults
from advisor.errors import UsageError

PARAMETERS = {
    "probe": {
        "device": "device",
        "memory_limit": "memory_limit",
        "set": "settings",
        "model": "model",
    },
    "report": {"html": "html_path"},
}


def write(folder, body):
    (folder / "pyproject.toml").write_text(body, encoding="utf-8")


def test_the_nearest_file_upwards_is_read(tmp_path):
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    write(tmp_path, '[tool.bsadvisor]\ndevice = "cpu"\n')
    assert read_defaults(below, PARAMETERS)["probe"] == {"device": "cpu"}
    write(below, "[project]\nname = 'nearer'\n")
    assert read_defaults(below, PARAMETERS) == {}


def test_keys_may_be_written_with_dashes_or_underscores(tmp_path):
    for key in ("memory-limit", "memory_limit"):
        write(tmp_path, f"[tool.bsadvisor]\n{key} = 1024\n")
        assert read_defaults(tmp_path, PARAMETERS)["probe"] == {"memory_limit": "1024"}


def test_each_command_gets_only_its_own_options(tmp_path):
    write(tmp_path, '[tool.bsadvisor]\nhtml = "out.html"\ndevice = "cpu"\n')
    assert read_defaults(tmp_path, PARAMETERS) == {
        "probe": {"device": "cpu"},
        "report": {"html_path": "out.html"},
    }


@pytest.mark.parametrize("body", ['set = ["a=1", "b=2"]', "set = {a = 1, b = 2}"])
def test_settings_are_a_list_or_a_table(tmp_path, body):
    write(tmp_path, f"[tool.bsadvisor]\n{body}\n")
    assert read_defaults(tmp_path, PARAMETERS)["probe"] == {"settings": ["a=1", "b=2"]}


@pytest.mark.parametrize("key", ["devise", "model", "help"])
def test_an_unknown_key_is_an_error_that_names_the_file(tmp_path, key):
    write(tmp_path, f'[tool.bsadvisor]\n{key} = "x"\n')
    with pytest.raises(UsageError, match=f"pyproject.toml.*no option {key}") as caught:
        read_defaults(tmp_path, PARAMETERS)
    assert "memory-limit" in caught.value.next_step


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("not toml", "cannot read .*pyproject.toml"),
        ("[tool]\nbsadvisor = 3\n", "not a table"),
        ("[tool.bsadvisor]\ndevice = [1]\n", "device is a list"),
    ],
)
def test_a_broken_file_is_an_error_that_names_it(tmp_path, body, message):
    write(tmp_path, body)
    with pytest.raises(UsageError, match=message):
        read_defaults(tmp_path, PARAMETERS)


def test_other_tools_tables_are_left_alone(tmp_path):
    write(tmp_path, "[tool.other]\nx = 1\n")
    assert read_defaults(tmp_path, PARAMETERS) == {}
