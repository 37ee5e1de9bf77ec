"""What a loader that keeps training waiting does to the advice."""

from advisor.loader.data import LoaderConclusion
from advisor.rate.rules import Caution
from advisor.units import render_figure

#: More workers than this are no sensible advice: each is a process with its own memory.
_MOST_ADVISED = 64
_SHARE = (
    "an iterable dataset must divide its samples among them by torch.utils.data.get_worker_info()"
)


def warn_of_loader(loader: LoaderConclusion | None) -> list[Caution]:
    """Return what the loader costs and what to do about it; nothing where it is not the limit."""
    if loader is None or loader.status != "limits":
        return []
    own = loader.points[0]
    together, alone = own.together_samples_per_s.point, loader.training_samples_per_s.point
    assert together is not None
    assert alone is not None
    fact = (
        f"The loader is the limit: with {_count(own.workers)} training runs at "
        f"{render_figure(together)} samples/s, without waiting for data at {render_figure(alone)}"
    )
    instruction = _instruct(loader)
    if loader.is_iterable and (loader.advised_workers or loader.workers_needed):
        instruction += f"; {_SHARE}"
    return [Caution(fact=fact, instruction=instruction)]


def _instruct(loader: LoaderConclusion) -> str:
    advised, needed = loader.advised_workers, loader.workers_needed
    point = loader.find_point(advised)
    text = ""
    if point is not None and point.together_samples_per_s.point is not None:
        speed = render_figure(point.together_samples_per_s.point)
        text = (
            f"Set num_workers={advised} and persistent_workers=True in the DataLoader, which ran "
            f"at {speed} samples/s"
        )
    is_open = needed is not None and loader.find_point(needed) is None
    if needed is not None and is_open and needed <= _MOST_ADVISED:
        text += "; try" if text else "Try"
        text += f" num_workers={needed}, which suffices if every worker loads as fast as those "
        text += f"timed: it was not run{_name_cores(loader, needed)}"
    if text:
        return text
    most = max(loader.points, key=lambda each: each.workers)
    if most.workers == loader.own_workers:
        return "Raise --budget so that the number of workers that suffices can be measured"
    return (
        "Make a sample cheaper to load, or read whole batches at once (__getitems__ of the "
        f"dataset): {_count(most.workers)} did not make it faster"
    )


def _name_cores(loader: LoaderConclusion, needed: int) -> str:
    if loader.cores is None or loader.cores >= needed:
        return ""
    cores = f"{loader.cores} processor{'' if loader.cores == 1 else 's'}"
    return f", and with {cores} here it can hold only where loading waits instead of computing"


def _count(workers: int) -> str:
    return f"{workers} worker{'' if workers == 1 else 's'}"
