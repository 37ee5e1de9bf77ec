"""Runs the user's script as `python train.py` would, until enough was seen of it."""

import importlib.util
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from advisor.errors import WorkloadError
from advisor.training.data import Script, WorkloadSpec, parse_target
from advisor.training.observer import Observer
from advisor.training.script.arguments import (
    NAMES,
    Filling,
    fill,
    fill_batch,
    list_variables,
    write_command,
)
from advisor.training.script.ending import Ending
from advisor.training.script.hooks import (
    refuse_spawning,
    start_anew,
    watch_failures,
    watch_inputs,
    watch_loading,
    watch_steps,
)
from advisor.training.script.movement import Movement
from advisor.training.script.patches import Patches
from advisor.training.script.sizes import Sizes
from advisor.training.script.stream import StepStream


class ScriptRun:
    """One start of the script.

    Args:
        workload: Names the script and its arguments.
        ending: Ends the process.
        observers: Of its steps.
        samples: Of a backward pass, as `fill_batch` has it.
        accumulation: Backward passes of a step.
        filling: What this start is told, where it is more than the batch.
        most_steps: After which the run ends.
        looks: Whether to see the samples of a batch where no DataLoader tells.
        catches: Whether to see failures of the forward pass that the script may catch.

    Attributes:
        stream: Its optimizer steps.
        sizes: Samples of its batches.
        movement: Of its parameters between steps, where it looks.
        has_ended: Whether the script ended by itself.
    """

    def __init__(
        self,
        workload: WorkloadSpec,
        ending: Ending,
        *,
        observers: Sequence[Observer],
        samples: int = 1,
        accumulation: int = 1,
        filling: Filling | None = None,
        most_steps: int | None = None,
        looks: bool = False,
        catches: bool = False,
    ) -> None:
        assert workload.script is not None
        self._workload, self._script = workload, workload.script
        self._filling = filling or fill_batch(self._script, samples, accumulation)
        self._ending = ending
        self.stream = StepStream(observers, samples=samples * accumulation, most_steps=most_steps)
        self.sizes, self.movement = Sizes(), Movement()
        self._samples = samples // self._script.parts
        self._end_looking: Callable[[], None] | None = None
        self.has_ended = False
        self._looks, self._catches, self._own_pid = looks, catches, os.getpid()

    def follow(self, finish: Callable[[], None]) -> None:
        """Run the script; once an observer has seen enough, or the script ends, `finish` and leave.

        Raises:
            WorkloadError: The script ended without an optimizer step.
            Exception: What the script raised.
        """
        has_finished = False

        def end() -> None:
            nonlocal has_finished
            if not has_finished:
                has_finished = True
                finish()
            if self._ending.goes_on and not self.has_ended:
                self._ending.say_done()
                self.stream.detach()
            else:
                self._ending.leave()

        self._attach(end)
        try:
            start_script(self._workload, self._script, self._filling)
        except SystemExit as error:
            if error.code not in {None, 0}:
                raise self._refuse_exit(error.code) from None  # its output tells more
        self.has_ended = True
        if not self.stream.count and not self._catches:
            raise self._refuse_idle()
        end()

    def _attach(self, end: Callable[[], None]) -> None:
        """Hang all that sees the script into torch."""
        patches = Patches()
        self.stream.on_steps = self._ending.note_steps
        watch_steps(patches, self.stream, self._guard, on_pass=self._see_pass, on_enough=end)
        watch_loading(patches, self.stream, self.sizes)
        refuse_spawning(lambda: self._refuse_launcher("starts by torch.multiprocessing"))
        if self._looks or self._script.dimension is not None:
            self._end_looking = watch_inputs(self.sizes)
        if self._catches:
            self.stream.on_out_of_memory = lambda: self._guard(end)
            watch_failures(self.stream)
        if self._filling.seed:
            start_anew(self._workload.seed, self._filling.seed)

    def _see_pass(self) -> None:
        """Look at what a backward pass shows; where the script is known, at its first alone."""
        if self.sizes.is_known:
            return
        self.sizes.end_pass()
        if self._looks:
            self.movement.see_pass(self.stream, self.sizes.model)
        elif self.stream.count == 0 and self.stream.gathered_passes == 1:
            if self._end_looking is not None:
                self._end_looking()
            self._refuse_fewer()
            self.sizes.is_known = True

    def _refuse_fewer(self) -> None:
        """Raise WorkloadError where a batch has fewer samples than it was told."""
        script, sizes = self._script, self.sizes
        if script.dimension is None:
            seen = min(sizes.loader or self._samples, sizes.dataset_size or self._samples)
        else:
            seen = next(iter(sizes.shape[script.dimension :]), self._samples)
        if seen < self._samples:
            raise WorkloadError(
                f"{self._workload.target}: told to take batches of {self._samples}, it takes "
                f"{seen}",
                next_step=f"Give --max-batch {seen * script.parts}, or let the script take more.",
            )

    def _guard(self, act: Callable[[], Any]) -> Any:
        """Return what a hook does; what that raises ends the process, uncaught by the script."""
        if os.getpid() != self._own_pid:
            self._refuse_launcher("forks")
        try:
            return act()
        except BaseException as error:  # noqa: BLE001
            self._ending.fail(error)

    def _refuse_exit(self, code: object) -> WorkloadError:
        next_step = "Run it by hand with these arguments to see why."
        if code == 2 and not self._filling.as_text():
            next_step = (
                "If it needs an argument that a placeholder stands for, give that one a value of "
                "your own, as in {batch_size=64}."
            )
        command = write_command(self._workload.target, self._script, self._filling)
        return WorkloadError(
            f"{self._workload.target} ended by sys.exit({code}) before enough of its steps were "
            f"seen; it was run as: {command}",
            next_step=next_step,
        )

    def _refuse_idle(self) -> WorkloadError:
        passes = self.stream.gathered_passes
        seen = f"{passes} backward passes, but no" if passes else "no backward pass and no"
        return WorkloadError(
            f"{self._workload.target} ended, and {seen} step of an optimizer was seen",
            next_step="Training has to happen in the script's own process, by the step of a "
            "torch.optim optimizer; parameters that are moved by hand are not seen.",
        )

    def _refuse_launcher(self, how: str) -> NoReturn:
        self._ending.fail(
            WorkloadError(
                f"{self._workload.target} trains in processes of its own, which it {how}: this "
                "launcher is not followed",
                next_step="Let the script read RANK and WORLD_SIZE, as under torchrun, and give "
                "--nproc-per-node.",
            )
        )


#: What keeps logging services from hearing of the starts, unless the user sets it.
_QUIET = {
    "WANDB_MODE": "disabled",
    "COMET_MODE": "disabled",
    "NEPTUNE_MODE": "debug",
    "CLEARML_OFFLINE_MODE": "1",
    "SWANLAB_MODE": "disabled",
}


def start_script(workload: WorkloadSpec, script: Script, filling: Filling) -> None:
    """Run it to its end, or raise what it raises; WorkloadError where there is no such module."""
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
    """Raise WorkloadError where there is no such module that can be run."""
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
