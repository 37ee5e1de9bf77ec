"""A run built by hand: every figure is made up, so that the report's text can be compared."""

import msgspec

from advisor.advice.data import Expected, Interval, Recommendation
from advisor.device.data import Counter, DeviceFacts, Environment
from advisor.engine.record import Command, Record
from advisor.engine.spec import Limits
from advisor.memory.data import MemoryConclusion, Probe
from advisor.noise.data import NoiseConclusion, NoisePoint
from advisor.questions import RUN
from advisor.race.data import BasePair, PairResult, Race
from advisor.rate.data import Candidate, Evaluation, LearningRate, OptimizerChanges, TrialBranch
from advisor.statistics import Estimate
from advisor.throughput.data import Saturation, ThroughputConclusion, ThroughputPoint
from advisor.training.data import OptimizerFacts, WorkloadFacts
from tests.given import Derived

MIB, GIB = 2**20, 2**30
GAIN = Estimate(0.4567, 0.417, 0.5)


def build_environment() -> Environment:
    return Environment(
        device=DeviceFacts(
            kind="cuda",
            name="Imaginary 9000",
            memory_bytes=16 * GIB,
            available_bytes=15 * GIB,
            index=1,
        ),
        torch="2.9.0",
        python="3.12.1",
        platform="Linux",
        cpu="Example CPU",
        cpu_threads=16,
        driver="570.1",
        cuda="12.8",
        timer_resolution_s=4.2e-8,
        worker_start_s=1.234,
        counters=(
            Counter(name="clock", value=1980.0, unit="MHz"),
            Counter(name="power", missing_because="the driver does not permit it"),
        ),
    )


def build_record(*, complete: bool = True) -> Record:
    return RUN.record_type(
        tool_version="0.1.0",
        created_at="2025-01-02T03:04:05Z",
        complete=complete,
        command=Command(
            argv=("bsadvisor", "probe", "model.py"),
            seed=0,
            precision="bf16",
            compile=False,
            limits=Limits(),
            memory_limit_bytes=10 * GIB,
            headroom_bytes=512 * MIB,
        ),
        workload=WorkloadFacts(
            file="model.py",
            model_name="Digits",
            how_model="make_model in model.py",
            how_loss="inferred: (inputs, integer targets) is cross-entropy",
            how_optimizer="make_optimizer in model.py: SGD, learning rate 1.0",
            how_batch="make_dataset in model.py, default_collate",
            parameter_count=123_456,
            dataset_size=50_000,
            has_dataset=True,
            optimizer=OptimizerFacts(name="SGD", learning_rate=1.0),
            base_batch_size=32,
            loss_reduction="mean",
            notes=("BatchNorm mixes the samples of a micro-batch.",),
        ),
        environment=build_environment(),
        probes=(
            Probe(stage="memory", session=1, micro_batch_size=32, outcome="fit", steps=3),
            Probe(stage="memory", session=2, micro_batch_size=641, outcome="oom"),
        ),
        trials=(
            _branch(size=32, rate=1.0, seed=0, loss=0.412),
            _branch(size=192, rate=2.0, seed=0, loss=None),
            _branch(size=192, rate=2**0.5, seed=0, loss=0.401),
        ),
        stopped_because=None if complete else "Ctrl-C",
        elapsed_s=98.7,
    )


def build_derived() -> Derived:
    return Derived(
        memory=MemoryConclusion(
            max_micro_batch_size=640,
            verified=True,
            limited_by="memory",
            fixed_bytes=210.4 * MIB,
            bytes_per_sample=14.5 * MIB,
            capacity_bytes=int(9.5 * GIB),
            headroom_bytes=512 * MIB,
            smallest_failed=641,
            probes=11,
            ooms=4,
        ),
        throughput=ThroughputConclusion(
            points=(
                _point(32, 4_000.0, 52.0, 674 * MIB),
                _point(192, 9_871.2, 103.0, 2_994 * MIB),
                _point(640, 11_234.5, 120.0, None),
            ),
            half_saturation_batch_size=Estimate(52.31, 47.0, 58.9),
            fixed_s=0.0045,
            per_sample_s=8.6e-05,
            optimizer_step_s=0.0003,
            saturation=Saturation(batch_size=512, low=384, high=None, status="saturated"),
            session_spread_fraction=0.0123,
        ),
        noise=NoiseConclusion(
            status="estimated",
            reason="five points along 200 steps of training",
            noise_scale=Estimate(701.4, 420.0, 1_310.0),
            gradient_sqnorm=0.02,
            gradient_cov_trace=14.0,
            at_step=200,
            micro_batch_size=32,
            points=(
                _noise_point(0, 41.0, 30.0, 66.0),
                _noise_point(100, 512.0, 300.0, 999.0),
                _noise_point(200, 1_190.0, 700.0, None),
            ),
        ),
        race=build_race(),
        recommendation=build_recommendation(),
    )


def build_race() -> Race:
    winner = PairResult(
        global_batch_size=192,
        micro_batch_size=192,
        gradient_accumulation_steps=1,
        learning_rate=2**0.5,
        standing="confirmed",
        time_ratio=GAIN,
        log_ratio=-0.784,
        error=0.05,
        degrees_of_freedom=6.0,
        starts=3,
        fresh_starts=3,
    )
    level = {"time_ratio": Estimate(1.02, 0.9, 1.16), "log_ratio": 0.02}
    slower = {"global_batch_size": 640, "standing": "behind", "fresh_starts": 0, **level}
    failed = {"learning_rate": 2.0, "standing": "failed", "starts": 0, "fresh_starts": 0}
    failed |= {"reason": "training diverged in 1 of 1 runs", "time_ratio": None, "log_ratio": None}
    return Race(
        base=BasePair(global_batch_size=32, learning_rate=1.0),
        does_base_train=True,
        base_steps=400,
        pairs=(
            winner,
            msgspec.structs.replace(winner, **failed),
            msgspec.structs.replace(winner, **slower),
        ),
        winner=winner,
    )


def build_recommendation() -> Recommendation:
    return Recommendation(
        basis="winner",
        micro_batch_size=192,
        gradient_accumulation_steps=1,
        data_parallel_size=1,
        global_batch_size=192,
        interval=Interval(low=128, high=320),
        learning_rate=LearningRate(
            value=2**0.5,
            rule="η = η0·κ(φ+B0)/(φ+B)",
            base_value=1.0,
            base_batch_size=32,
            proposed=2.0,
            low=1.7,
            high=2.6,
            capped_by="trial",
            reason="trained from 6 starts beside your pair",
        ),
        optimizer_changes=OptimizerChanges(beta2=0.994, weight_decay=0.0123456, warmup_steps=40),
        limiting_factor="noise",
        expected=Expected(time_ratio=GAIN, cost_ratio=GAIN, is_measured=True),
        reasons=(
            "Batch 192 at 1.41 took 0.46 × (0.42 to 0.5) the time of your own pair, batch 32 at 1.",
            "Memory would allow 640.",
        ),
        warnings=("All of this is about training loss; check validation loss as well.",),
        candidates=(
            _candidate(32, 1, 0.008, 1.0),
            _candidate(128, 1, 0.0145, 0.466),
            _candidate(192, 1, 0.01945, 0.4567),
            _candidate(640, 1, 0.05697, 0.776),
            _candidate(640, 2, 0.1136, None),
        ),
        snippet='for group in optimizer.param_groups:\n    group["lr"] *= 1.414\n',
    )


def without(derived: Derived, **changes: object) -> Derived:
    return msgspec.structs.replace(derived, **changes)


def _branch(*, size: int, rate: float, seed: int, loss: float | None) -> TrialBranch:
    evaluations = (Evaluation(samples=0, loss=2.303),)
    if loss is not None:
        evaluations += (Evaluation(samples=3_840, loss=loss),)
    return TrialBranch(
        micro_batch_size=size,
        gradient_accumulation_steps=1,
        global_batch_size=size,
        learning_rate=rate,
        seed=seed,
        samples=3_840,
        evaluations=evaluations,
        diverged=loss is None,
    )


def _point(size: int, per_s: float, half_width: float, peak: int | None) -> ThroughputPoint:
    return ThroughputPoint(
        micro_batch_size=size,
        samples_per_s=Estimate(per_s, per_s - half_width, per_s + half_width / 2),
        step_s=Estimate(size / per_s, None, None),
        micro_step_s=None,
        sessions=3,
        peak_bytes=peak,
    )


def _noise_point(step: int, point: float, low: float, high: float | None) -> NoisePoint:
    return NoisePoint(
        at_step=step,
        loss=1.0,
        samples=4_096,
        noise_scale=Estimate(point, low, high),
        preconditioned_noise_scale=None,
        gradient_sqnorm=0.1,
        gradient_cov_trace=1.0,
    )


def _candidate(size: int, steps: int, step_s: float, time: float | None) -> Candidate:
    return Candidate(
        global_batch_size=size * steps,
        micro_batch_size=size,
        gradient_accumulation_steps=steps,
        step_s=step_s,
        relative_time=time,
        relative_samples=None,
    )
