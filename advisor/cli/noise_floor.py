"""`bsadvisor noise-floor MODEL`: how far this machine differs from itself."""

from typing import Annotated

from advisor.cli.failures import reporting_failures
from advisor.cli.nodes import Ranks, find_nodes, follow_leader
from advisor.cli.options import Against, Allowed, CompiledTraining, Results, make_spec
from advisor.cli.script import read_workload


@reporting_failures
def noise_floor(
    *,
    training: CompiledTraining,
    ranks: Ranks,
    against: Against,
    allowed: Annotated[Allowed, "budget_s"],
    results: Annotated[Results, "json_path", "quiet", "verbose"],
) -> None:
    """Time a training against itself: the spread of this machine, and what a check would see.

    `check` takes what is found here into account, for the same training on the same device.
    """
    nodes = find_nodes(ranks)
    workload = read_workload(training, ranks, nodes)
    follow_leader(nodes, workload)

    from advisor.cli.drive import Output, drive
    from advisor.engine.document import encode_document
    from advisor.gate import store
    from advisor.gate.reading import read_setting
    from advisor.noise_floor.data import MICRO_BATCH_SIZE
    from advisor.noise_floor.question import KIND

    asked = store.Asked(path=against.baseline)
    store.refuse_unwritable(asked)
    output = Output(results, reads=(training.model,))
    pinned = ((MICRO_BATCH_SIZE, against.micro_batch_size),)
    found = drive(KIND, make_spec(workload, allowed), output, asked=pinned, nodes=nodes)
    size = found.record.get(MICRO_BATCH_SIZE)
    assert size is not None
    path = store.choose_spread_path(asked, read_setting(workload, found.record, size))
    store.save(path, encode_document(KIND, found))
    output.remark(f"kept for check in {path}")
