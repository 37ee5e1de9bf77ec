"""Runs the user's script as `python train.py` would, until enough was seen of it."""

import importlib.util
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from advisor.errors import WorkloadError
from advisor.training.data import WorkloadSpec, parse_target
from advisor.training.observer import Observer
from advisor.training.script.arguments import (
    NAMES,
    Filling,
    fill,
    fill_batch,
    list_variables,
    write_command,
)
from advisor.training.script.hooks import (
    refuse_spawning,
    start_anew,
    watch_failures,
    watch_inputs,
    watch_steps,
)
from advisor.training.script.passes import Movement
from advisor.training.script.sizes import Sizes
from advisor.training.script.stream import StepStream
from advisor.training.script.word import Words


class Ending:
    """Takes what was seen of the script, and ends its process: nothing is done that it would do.

    Attributes:
        goes_on: Whether the script goes on once enough was seen, as on all ranks but the first.
        words: What passes words among ranks; None where there is one alone.
    """

    goes_on = False
    words: Words | None = None

    def __call__(self, result: object) -> None:
        """Send a result."""

    def say_done(self) -> None:
        """Say that all results were sent, where the process goes on."""

    def note_steps(self, steps: int) -> None:
        """Tell how many steps were taken, where somebody watches for a rank that hangs."""

    def leave(self) -> NoReturn:
        """Say that all results were sent, and end the process as it stands."""
        raise NotImplementedError

    def stop(self) -> NoReturn:
        """The same, where the script cannot go on."""
        self.leave()

    def fail(self, error: BaseException) -> NoReturn:
        """Say what went wrong, and end the process as it stands."""
        raise NotImplementedError


class ScriptRun:
    """One start of the script.

    Args:
        workload: Names the script and its arguments.
        ending: Ends the process.
        observers: Of its steps.
        samples, accumulation: Of a backward pass, as `fill_batch` has them; passes of a step.
        filling: What this start is told, where it is more than the batch.
        most_steps: After which the run ends.
        looks: Whether to see the samples of a batch where no DataLoader tells.
        catches: Whether to see failures of the forward pass that the script may catch.

    Attributes:
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
        self.script, self._target, self._seed = workload.script, workload.target, workload.seed
        self.file = workload.file
        self._filling = filling or fill_batch(self.script, samples, accumulation)
        self._ending = ending
        self.stream = StepStream(observers, samples=samples * accumulation, most_steps=most_steps)
        self.sizes, self.movement = Sizes(), Movement()
        self._samples = samples // self.script.parts
        self._end_looking: Callable[[], None] = lambda: None
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
            self._start()
        except SystemExit as error:
            if error.code not in {None, 0}:
                raise self._refuse_exit(error.code) from None  # its output tells more
        self.has_ended = True
        if not self.stream.count and not self._catches:
            passes = self.stream.gathered_passes
            seen = f"{passes} backward passes, but no" if passes else "no backward pass and no"
            raise WorkloadError(
                f"{self.file} ended, and {seen} step of an optimizer was seen",
                next_step="Training has to happen in the script's own process, by the step of a "
                "torch.optim optimizer; parameters that are moved by hand are not seen.",
            )
        end()

    def _start(self) -> None:
        script, target = self.script, parse_target(self._target)
        arguments = fill(script.arguments, self._filling)
        for name in NAMES:
            os.environ.pop(f"BSADVISOR_{name.upper()}", None)
        os.environ.update(BSADVISOR="1", **list_variables(self._filling))
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

    def _attach(self, end: Callable[[], None]) -> None:
        stream = self.stream
        stream.on_steps, stream.on_enough = self._ending.note_steps, end
        stream.on_pass = lambda: self._guard(self._see_pass)
        watch_steps(stream, self.sizes, self._guard)
        refuse_spawning(lambda: self._refuse_launcher("starts by torch.multiprocessing"))
        if self._looks or self.script.dimension is not None:
            self._end_looking = watch_inputs(self.sizes)
        if self._catches:
            stream.on_out_of_memory = lambda: self._guard(end)
            watch_failures(stream)
        if self._filling.seed:
            start_anew(self._seed, self._filling.seed)

    def _see_pass(self) -> None:
        """Look at what a backward pass shows; where the script is known, at its first alone."""
        sizes, stream = self.sizes, self.stream
        if sizes.is_known:
            return
        sizes.end_pass()
        if self._looks:
            self.movement.see_pass(stream.optimizer, stream.gathered_passes, sizes.model)
        elif stream.count == 0 and stream.gathered_passes == 1:
            self._end_looking()
            self._refuse_fewer()
            sizes.is_known = True

    def _refuse_fewer(self) -> None:
        """Raise WorkloadError where a batch has fewer samples than it was told."""
        script, sizes = self.script, self.sizes
        if script.dimension is None:
            seen = min(sizes.loader or self._samples, sizes.dataset_size or self._samples)
        else:
            seen = next(iter(sizes.shape[script.dimension :]), self._samples)
        if seen < self._samples:
            raise WorkloadError(
                f"{self.file}: told to take batches of {self._samples}, it takes {seen}",
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
        command = write_command(self._target, self.script, self._filling)
        return WorkloadError(
            f"{self.file} ended by sys.exit({code!r}) before enough of its steps were "
            f"seen; it was run as: {command}",
            next_step=next_step,
        )

    def _refuse_launcher(self, how: str) -> NoReturn:
        self._ending.fail(
            WorkloadError(
                f"{self.file} trains in processes of its own, which it {how}: this "
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
