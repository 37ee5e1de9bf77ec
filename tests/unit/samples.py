"""Records, conclusions and laws that many tests start from."""

from types import SimpleNamespace

from advisor.advice.plan import ADVICE
from advisor.device.data import DeviceFacts, Environment
from advisor.engine.record import Command, Conclusions
from advisor.engine.spec import Limits
from advisor.memory.data import MemoryConclusion, Probe
from advisor.noise.data import NoiseConclusion
from advisor.questions import RUN
from advisor.rate.data import Candidate, Evaluation, TrialBranch
from advisor.soak.data import Soak
from advisor.statistics import Estimate
from advisor.throughput.data import Saturation, ThroughputConclusion, ThroughputPoint
from advisor.training.data import OptimizerFacts, WorkloadFacts

FIXED_S, PER_SAMPLE_S = 0.004, 0.0001  # half saturation at 40

SGD = OptimizerFacts(name="SGD", learning_rate=1.0, momentum=0.9)
ADAMW = OptimizerFacts(
    name="AdamW", learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.01
)
FACTS = WorkloadFacts(
    file="model.py",
    model_name="Net",
    how_model="",
    how_loss="",
    how_optimizer="",
    how_batch="",
    dataset_size=50_000,
    has_dataset=True,
    optimizer=SGD,
    base_batch_size=32,
    loss_reduction="mean",
)
ENVIRONMENT = Environment(
    device=DeviceFacts(kind="cpu", name="It", memory_bytes=4 << 30, available_bytes=4 << 30),
    torch="2.9",
    python="3.12",
    platform="Linux",
    cpu="CPU",
    cpu_threads=2,
)
SATURATED = Saturation(batch_size=512, low=400, high=640, status="saturated")
LIMITED = Saturation(
    batch_size=None, low=65, high=None, status="memory_limited", needed_batch_size=760
)
UNKNOWN_NOISE = NoiseConclusion(status="not_estimated", reason="there is no make_dataset")


def make_record(facts=FACTS, trials=(), probes=(), **limits):
    """A run whose batches are in memory: steps take what they take by themselves."""
    return RUN.record_type(
        tool_version="0",
        created_at="2026-01-01T00:00:00+00:00",
        complete=True,
        command=Command(
            argv=(),
            seed=0,
            precision="fp32",
            compile=False,
            limits=Limits(**{"no_loader": True, **limits}),
            memory_limit_bytes=1000,
        ),
        workload=facts,
        probes=tuple(probes),
        trials=tuple(trials),
    )


def make_memory(largest=1024, limited_by="memory", *, verified=True):
    return MemoryConclusion(
        max_micro_batch_size=largest,
        verified=verified,
        limited_by=limited_by,
        fixed_bytes=None,
        bytes_per_sample=None,
        capacity_bytes=None,
        headroom_bytes=0,
        smallest_failed=None,
        probes=1,
        ooms=0,
    )


def make_throughput(sizes=(16, 32, 64, 128, 256, 512, 1024), saturation=SATURATED, optimizer_s=0.0):
    points = []
    for size in sizes:
        step_s = FIXED_S + PER_SAMPLE_S * size + optimizer_s
        points.append(
            ThroughputPoint(
                micro_batch_size=size,
                samples_per_s=Estimate(size / step_s, None, None),
                step_s=Estimate(step_s, step_s * 0.99, step_s * 1.01),
                micro_step_s=step_s - optimizer_s,
                sessions=3,
            )
        )
    return ThroughputConclusion(
        points=tuple(points),
        half_saturation_batch_size=Estimate(40.0, 39.0, 41.0),
        fixed_s=FIXED_S,
        per_sample_s=PER_SAMPLE_S,
        optimizer_step_s=optimizer_s,
        saturation=saturation,
        session_spread_fraction=0.01,
    )


def make_noise(point, low, high):
    return NoiseConclusion(
        status="lower_bound" if high is None else "estimated",
        reason="measured at step 0",
        noise_scale=Estimate(point, low, high),
    )


NOISE = make_noise(400.0, 300.0, 550.0)


def conclude(record, **known):
    """Conclusions of a record, some of them given by their name in the document."""
    conclusions = Conclusions(record)
    ask = conclusions.of
    conclusions.of = lambda topic: known[topic.name] if topic.name in known else ask(topic)
    return conclusions


def derive(record):
    """Everything that follows from a record of a run, by its name in the document."""
    conclusions = Conclusions(record)
    return SimpleNamespace(**{topic.name: conclusions.of(topic) for topic in RUN.topics})


def propose(record, memory, throughput, noise):
    return conclude(record, memory=memory, throughput=throughput, noise=noise).of(ADVICE)


def recommend(record=None, memory=None, throughput=None, noise=NOISE):
    """The advice; each of its warnings says a fact and ends in what to do about it."""
    advice = propose(
        record or make_record(), memory or make_memory(), throughput or make_throughput(), noise
    )
    for warning in advice.warnings if advice else ():
        *facts, instruction = warning.split(". ")
        assert facts
        assert instruction.endswith(".")
        assert instruction[0].isupper()
    return advice


def follow_law(pace, evaluations=60):
    """Losses by hundreds of samples; after `pace` times fewer they are as low."""
    return tuple(2.0 / (1.0 + 0.05 * pace * n) for n in range(evaluations + 1))


#: The base pair's losses; those of one that needs half as many samples, of one that needs twice as
#: many, and of one that does not train.
OWN, FAST, SLOW = (follow_law(pace) for pace in (1.0, 2.0, 0.5))
FLAT = (2.0,) * 61


def make_branches(size, rate, losses=OWN, seeds=3, first_seed=0, **fields):
    return [
        TrialBranch(
            micro_batch_size=size,
            gradient_accumulation_steps=1,
            global_batch_size=size,
            learning_rate=rate,
            seed=seed,
            samples=100 * (len(losses) - 1),
            evaluations=tuple(
                Evaluation(samples=100 * index, loss=loss) for index, loss in enumerate(losses)
            ),
            diverged=False,
            **fields,
        )
        for seed in range(first_seed, first_seed + seeds)
    ]


def make_probes(sizes=(16, 32, 64, 128, 256, 512, 1024), sessions=3):
    memory = [
        Probe(
            stage="memory",
            session=0,
            micro_batch_size=size,
            outcome="fit" if size <= 1024 else "oom",
            steps=3,
            forward_backward_peak_bytes=size,
            optimizer_peak_bytes=4,
        )
        for size in (1, 512, 1024, 1030)
    ]
    timed = [
        Probe(
            stage="throughput",
            session=session,
            micro_batch_size=size,
            outcome="fit",
            step_times_s=((FIXED_S + PER_SAMPLE_S * size) * (1 + 0.002 * session),) * 3,
        )
        for session in range(sessions)
        for size in sizes
    ]
    return [*memory, *timed]


def make_pairs(others, base=(32, 1.0), **fields):
    """The base pair and others, each from the starts that pick and from fresh ones.

    Its losses, or what else its branches have, stand beside each of the others.
    """
    trials = make_branches(*base, seeds=6)
    for pair, changes in others.items():
        own = changes if isinstance(changes, dict) else {"losses": changes}
        trials += make_branches(*pair, seeds=6, **own)
    return trials


MIB = 2**20


def make_soak(size, outcome="fit", slope=0, steps=60, **fields):
    return Soak(
        micro_batch_size=size,
        outcome=outcome,
        steps=steps,
        held_bytes=tuple(slope * step for step in range(steps)),
        training_peak_bytes=100 * MIB,
        capacity_bytes=1000 * MIB,
        **fields,
    )


def make_facts(**changes):
    known = {
        "file": "model.py",
        "model_name": "Net",
        "how_model": "",
        "how_loss": "",
        "how_optimizer": "",
        "how_batch": "",
        "parameter_count": 1000,
        "trainable_parameter_count": 1000,
        "parameter_bytes": 4000,
        "dataset_size": 10**6,
        "base_batch_size": 32,
    }
    return WorkloadFacts(**(known | changes))


def make_candidate(micro_batch_size, count, step_s):
    return Candidate(
        global_batch_size=micro_batch_size * count,
        micro_batch_size=micro_batch_size,
        gradient_accumulation_steps=count,
        step_s=step_s,
    )


def affine(sizes, fixed_s=FIXED_S, per_sample_s=PER_SAMPLE_S):
    return tuple(make_candidate(size, 1, fixed_s + per_sample_s * size) for size in sizes)
