"""A small training as users write it, and monitors that say what they are told."""

import math
import socket

import torch
from torch import multiprocessing, nn

from advisor import BatchSizeSchedule
from advisor.in_loop.data import NoiseScale

SAMPLES = 512
GENERATOR = torch.Generator().manual_seed(5)
INPUTS = torch.randn(SAMPLES, 8, generator=GENERATOR, dtype=torch.float64)
TARGETS = (INPUTS @ torch.randn(8, 1, generator=GENERATOR, dtype=torch.float64)).tanh()


def say(low=None, high=None, middle=None):
    middle = math.sqrt(low * high) if low and high and middle is None else middle or low
    return NoiseScale(
        noise_scale=middle,
        low=low,
        high=high,
        at_step=0,
        steps=10,
        samples_seen=100,
        batch_size=16.0,
        estimator="micro-batches",
    )


class Told:
    """A monitor that says what it is told."""

    def __init__(self, value=None):
        self.value = value

    def state_dict(self):
        return {"low": None if self.value is None else self.value.low}

    def load_state_dict(self, state):
        self.value = None if state["low"] is None else say(low=state["low"])


class Training:
    """A model, its optimizer and its schedules, trained by the loop of the documents."""

    def __init__(self, table, *, micro_batch_size=4, optimizer="AdamW", **settings):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)).double()
        kinds = {"AdamW": {"weight_decay": 0.05}, "SGD": {"momentum": 0.9}, "Adagrad": {}}
        self.optimizer = getattr(torch.optim, optimizer)(
            self.model.parameters(), lr=0.01, **kinds[optimizer]
        )
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 400)
        self.size = micro_batch_size
        self.schedule = BatchSizeSchedule(
            table, self.optimizer, micro_batch_size=micro_batch_size, **settings
        )
        self.batches, self.rates = [], []
        self.optimizer.register_step_pre_hook(self._note)

    def _note(self, *_):
        self.rates.append(self.optimizer.param_groups[0]["lr"])

    def train(self, samples, *, rank=0, ranks=1, exchange=lambda model: None):
        """Train until so many samples were seen, over and over the data."""
        schedule, at = self.schedule, self.schedule.samples_seen
        while schedule.samples_seen < samples:
            rows = [(at + rank * self.size + n) % SAMPLES for n in range(self.size)]
            loss = nn.functional.mse_loss(self.model(INPUTS[rows]), TARGETS[rows])
            (loss / schedule.micro_batches).backward()
            at += self.size * ranks
            before = schedule.samples_seen
            if schedule.should_step():
                self.batches.append(schedule.samples_seen - before)
                exchange(self.model)
                self.optimizer.step()
                schedule.step_scheduler(self.scheduler)
                self.optimizer.zero_grad()
        return self

    def state_dict(self):
        parts = (self.model, self.optimizer, self.scheduler, self.schedule)
        return [part.state_dict() for part in parts]

    def load(self, state):
        for part, own in zip(
            (self.model, self.optimizer, self.scheduler, self.schedule), state, strict=True
        ):
            part.load_state_dict(own)
        return self

    @property
    def weights(self):
        return torch.cat([p.detach().flatten() for p in self.model.parameters()])


def find_port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def fork_ranks(run_rank, *arguments, preload=()):
    """Run a function of the rank on two ranks.

    They are forked, since libraries take seconds to import; from a server that has trained nothing,
    since threads of a process that did would be missing in them.
    """
    multiprocessing.set_forkserver_preload([run_rank.__module__, *preload])
    multiprocessing.start_processes(run_rank, arguments, nprocs=2, start_method="forkserver")
