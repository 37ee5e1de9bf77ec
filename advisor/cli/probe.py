"""`bsadvisor probe MODEL`: measure, then answer."""

import os

from advisor.cli import options, probe_options, ranked, scenario
from advisor.cli.drive import Output, drive
from advisor.cli.failures import reporting_failures
from advisor.cli.nodes import find_nodes, follow_leader, leading
from advisor.cli.script import make_script, refuse_for_script
from advisor.cli.variants import make_workload, parse_variants


@reporting_failures
def probe(
    model: options.ModelOrScript,
    arguments: options.ScriptArguments = None,
    *,
    is_module: options.IsModule = False,
    batch_size_is: options.BatchSizeIs = "micro",
    nproc_per_node: probe_options.ProcessesPerNode = 1,
    strategy: probe_options.Strategy = "ddp",
    nnodes: probe_options.Nodes = 1,
    node_rank: probe_options.NodeRank = None,
    rdzv_endpoint: probe_options.RendezvousEndpoint = None,
    rdzv_backend: probe_options.RendezvousBackend = "c10d",
    rdzv_id: probe_options.RendezvousId = None,
    rdzv_conf: probe_options.RendezvousConf = None,
    master_addr: probe_options.MasterAddress = None,
    master_port: probe_options.MasterPort = None,
    device: options.Device = "auto",
    memory_limit: options.MemoryLimit = None,
    headroom: options.Headroom = None,
    precision: probe_options.Precisions = "fp32",
    compile_model: probe_options.Compile = "off",
    budget: probe_options.PlannedBudget = None,
    seed: options.Seed = 0,
    settings: options.Settings = None,
    base_batch_size: probe_options.BaseBatchSize = None,
    max_batch: options.MaxBatch = None,
    batch_multiple: options.BatchMultiple = 1,
    global_batch_size: probe_options.GivenBatchSize = None,
    noise_steps: probe_options.NoiseSteps = None,
    checkpoints: probe_options.Checkpoints = None,
    noise_log: probe_options.NoiseLog = None,
    sample_unit: probe_options.SampleUnit = "sample",
    sharpness: probe_options.Sharpness = False,
    reserve: probe_options.Reserve = False,
    train_steps: probe_options.TrainSteps = None,
    no_loader: probe_options.NoLoader = False,
    epoch_overhead: probe_options.EpochOverhead = None,
    gpus: scenario.GpuCounts = None,
    price: scenario.Price = None,
    interconnect: scenario.InterconnectName = None,
    samples: scenario.Samples = None,
    epochs: scenario.Epochs = None,
    milestones: scenario.Milestones = None,
    gamma: scenario.Gamma = None,
    cosine: scenario.Cosine = None,
    json_path: options.JsonFile = None,
    html_path: options.HtmlFile = None,
    markdown_path: options.MarkdownFile = None,
    full: options.Full = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure, then recommend a batch size and learning rate.

    Memory, throughput and gradient noise are measured on this device with your own model and data,
    or in your own training script, as it is: probe train.py -- --batch-size {batch_size}
    """
    variants = parse_variants(precision, compile_model)
    nodes = find_nodes(
        nnodes=nnodes,
        nproc_per_node=nproc_per_node,
        node_rank=node_rank,
        rdzv_backend=rdzv_backend,
        rdzv_endpoint=rdzv_endpoint,
        rdzv_id=rdzv_id,
        rdzv_conf=rdzv_conf,
        master_addr=master_addr,
        master_port=master_port,
        variables=os.environ,
    )
    script = make_script(
        model,
        arguments,
        is_module=is_module,
        batch_size_is=batch_size_is,
        nproc_per_node=nproc_per_node,
        nodes=nodes,
    )
    target = model
    if script is None and (nproc_per_node > 1 or nodes is not None):
        target, script = (
            ranked.MODULE,
            ranked.spread_model_file(
                model,
                variants[0],
                strategy=strategy,
                settings=settings,
                seed=seed,
                nproc_per_node=nproc_per_node,
                nodes=nodes,
            ),
        )
    elif script is not None:
        refuse_for_script(
            precision=precision != "fp32",
            compile=compile_model != "off",
            set=bool(settings),
            checkpoint=bool(checkpoints),
            sharpness=sharpness,
            no_loader=no_loader,
        )
    if script is not None and nodes is not None and nodes.node != 0:
        follow_leader(nodes, target)
    workload = make_workload(
        target,
        variants[0],
        settings=settings,
        device=device,
        seed=seed,
        base_batch_size=base_batch_size,
        script=script,
    )
    on_paper = scenario.build_scenario(
        gpus=gpus,
        price=price,
        interconnect=interconnect,
        samples=samples,
        epochs=epochs,
        milestones=milestones,
        gamma=gamma,
        cosine=cosine,
    )
    reads = (model, noise_log, *(checkpoints or ()))
    output = Output(
        json_path=json_path,
        html_path=html_path,
        markdown_path=markdown_path,
        full=full,
        quiet=quiet,
        verbose=verbose,
        reads=reads,
    )

    from advisor.advice.data import SCENARIO
    from advisor.engine.spec import Limits, Spec
    from advisor.questions import RUN
    from advisor.variants.data import VARIANTS
    from advisor.variants.stage import list_variants

    spec = Spec(
        workload=workload,
        limits=Limits(
            memory_limit_bytes=memory_limit,
            headroom_bytes=headroom,
            max_micro_batch_size=max_batch,
            batch_multiple=batch_multiple,
            global_batch_size=global_batch_size,
            budget_s=budget,
            noise_steps=noise_steps,
            checkpoints=tuple(checkpoints or ()),
            noise_log=noise_log,
            sample_unit=sample_unit,
            sharpness=sharpness,
            reserve=reserve,
            train_steps=train_steps,
            no_loader=no_loader,
            epoch_overhead_s=epoch_overhead or 0.0,
        ),
    )
    asked = ((SCENARIO, on_paper), (VARIANTS, list_variants(variants)))
    with leading(nodes if script else None) as leader:
        drive(RUN, spec, output, asked=asked, leader=leader)
