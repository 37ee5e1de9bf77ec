"""A monitor that is made once a library's trainer has its optimizer."""

from typing import Any

from torch import nn
from torch.optim import Optimizer

from advisor.in_loop.data import NoiseScale
from advisor.in_loop.monitor import NoiseScaleMonitor


class TrainerMonitor:
    """Stands for a NoiseScaleMonitor before, during and after a trainer's loop.

    Args:
        settings: As of NoiseScaleMonitor.

    Attributes:
        monitor: None before training.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._state: dict[str, Any] | None = None
        self.monitor: NoiseScaleMonitor | None = None

    @property
    def value(self) -> NoiseScale | None:
        """The noise scale over the last measured steps; None before there are enough."""
        return None if self.monitor is None else self.monitor.value

    def begin(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Watch a loop that begins, or goes on from the state that was loaded."""
        self.monitor = NoiseScaleMonitor(model, optimizer, **self._settings)
        if self._state is not None:
            self.monitor.load_state_dict(self._state)
        self.monitor.start()

    def end(self) -> None:
        """Watch it no more; the value stays."""
        if self.monitor is not None:
            self.monitor.stop()

    def state_dict(self) -> dict[str, Any]:
        """Return what a monitor goes on from."""
        return self._state or {} if self.monitor is None else self.monitor.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, before the loop begins or in it."""
        self._state = state_dict or None
        if self.monitor is not None and state_dict:
            self.monitor.load_state_dict(state_dict)
