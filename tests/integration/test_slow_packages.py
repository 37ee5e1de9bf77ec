"""A package of the installation that does not get through its import, or ends the process."""

import pytest

from tests.integration.probe_command import run_probe

pytestmark = pytest.mark.slow

MODEL = """\
import broken_package
import torch

make_model = lambda: torch.nn.Linear(4, 2)


def make_batch(size):
    return torch.randn(size, 4), torch.randint(2, (size,))
"""
#: A folder of installed packages in place of the platform's own.
SITE = """\
import sysconfig

own = sysconfig.get_path
sysconfig.get_path = lambda key, *rest: {folder!r} if key == "platlib" else own(key, *rest)
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "import time\ntime.sleep(1e6)\n",
            ("did not finish within", "model.py:1 in <module>", "still being imported"),
        ),
        ("import os\nos._exit(3)\n", ("exit status 3",)),
        ("import os\nos.kill(os.getpid(), 11)\n", ("segmentation fault",)),
    ],
)
def test_what_a_package_does_to_its_import_is_told_of_the_file(code, said, monkeypatch, tmp_path):
    folder, results = tmp_path / "site-packages", tmp_path / "results"
    for each in (folder, results):
        each.mkdir()
    (folder / "broken_package.py").write_text(code)
    (folder / "sitecustomize.py").write_text(SITE.format(folder=str(folder)))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
    model = tmp_path / "model.py"
    model.write_text(MODEL)
    outcome = run_probe(str(model), "--budget", "40s", directory=results)
    assert outcome.exit_code == 5
    assert outcome.survivors == ()
    for text in said:
        assert text in outcome.stderr
