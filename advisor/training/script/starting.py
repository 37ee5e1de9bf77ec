"""The start of the user's script, as `python train.py` or `python -m train` would."""

import importlib.util
import os
import runpy
import sys
from pathlib import Path

from advisor.errors import WorkloadError
from advisor.training.data import Script, WorkloadSpec, parse_target
from advisor.training.script.arguments import NAMES, Filling, fill, list_variables

#: What keeps logging services from hearing of the starts, unless the user sets it.
_QUIET = {
    "WANDB_MODE": "disabled",
    "COMET_MODE": "disabled",
    "NEPTUNE_MODE": "debug",
    "CLEARML_OFFLINE_MODE": "1",
    "SWANLAB_MODE": "disabled",
}


def start_script(workload: WorkloadSpec, script: Script, filling: Filling) -> None:
    """Run it to its end.

    Raises:
        WorkloadError: There is no such module.
        Exception: What the script raised.
    """
    target = parse_target(workload.target)
    arguments = fill(script.arguments, filling)
    for name in NAMES:
        os.environ.pop(f"BSADVISOR_{name.upper()}", None)
    os.environ.update(BSADVISOR="1", **list_variables(filling))
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if target.path is not None and not script.is_module:
        sys.argv = [target.path, *arguments]
        sys.path.insert(0, str(Path(target.path).resolve().parent))
        runpy.run_path(target.path, run_name="__main__")
        return
    sys.argv = [target.text, *arguments]
    sys.path.insert(0, str(Path.cwd()))
    _refuse_missing(target.text)
    runpy.run_module(target.text, run_name="__main__", alter_sys=True)


def _refuse_missing(module: str) -> None:
    """See that there is such a module, and that it can be run.

    Raises:
        WorkloadError: There is none.
    """
    try:
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{module}.__main__")
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # what a package imports is missing
        spec = None
    if spec is None:
        raise WorkloadError(
            f"python -m {module} finds nothing to run in {Path.cwd()}",
            next_step="Give the name as after python -m, in the folder where that works.",
        )
