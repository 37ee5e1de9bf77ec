"""What all tests share: their surroundings, long ones first."""

import atexit
import gc
import os
import re
import shutil
import tempfile

import pytest
from hypothesis import settings

#: Options of pytest-xdist that pyproject.toml gives, each with one value.
_DISTRIBUTION = ("--numprocesses", "--dist")

#: Files of which one process takes all: libraries that take seconds to import are imported once,
#: by it or by the server of its workers.
_TOGETHER = (
    re.compile("in_loop"),
    re.compile("integration/test_(foreign_code|good_model_files|loader_rates|script_kinds)"),
)

# An example may take as long as a busy machine lets it. The same ones are drawn where a commit is
# judged; elsewhere new ones look for what these do not find.
settings.register_profile("tests", deadline=None, derandomize="BSADVISOR_CI" in os.environ)
settings.load_profile("tests")

# Before torch is loaded, here and in what the tests start: threads of several processes would wait
# for one another on the same cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The tests look at what is compiled, not at how fast it is: no processes for it, and no compiler
# asked which instructions there are.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "0")
# What tests look for may stand anywhere in the report; the first screen has tests of its own.
os.environ.setdefault("BSADVISOR_FULL", "1")
# Runs of tests are not kept among the user's.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="bsadvisor-tests-cache-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)


def pytest_addoption(parser, pluginmanager):
    """Let `-p no:xdist` run the tests one by one in spite of the options for it."""
    if not pluginmanager.has_plugin("xdist"):
        for name in _DISTRIBUTION:
            parser.addoption(name)
        parser.addoption("--no-loadscope-reorder", action="store_true")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Hand out file by file, and as one what shares libraries."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return next((each.pattern for each in _TOGETHER if each.search(file)), file)

    return ByFile(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Spare the collector of garbage what all tests are made of: it stays to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items):
    """Run the long ones first, so that all processes end at about the same time."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
