"""The loader, as the registry has it."""

from advisor.engine.question import Question
from advisor.loader.data import LOADER_TIMINGS
from advisor.loader.plan import LOADER
from advisor.loader.stage import run_loader

QUESTION = Question(name="loader", keys=(LOADER_TIMINGS,), topics=(LOADER,), run=run_loader)
