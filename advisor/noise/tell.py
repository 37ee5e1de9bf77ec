"""The noise scale in words and as a chart."""

from advisor.engine.record import Conclusions
from advisor.noise.data import NoiseConclusion, choose_metric, format_noise_scale
from advisor.noise.plan import NOISE
from advisor.telling import Chart, Line, Row, Status, Told, place_estimates
from advisor.units import NOT_MEASURED, format_number


def tell_noise(conclusions: Conclusions) -> Told:
    """Return the noise scale and its course, or why there is none."""
    noise = conclusions.of(NOISE)
    if noise is None:
        text = f"{NOT_MEASURED}: {conclusions.record.why_missing}"
        return Told(rows=(Row("Noise scale", text),))
    lines = {"plain gradients": False, "in the optimizer's metric": True}
    chart = Chart(
        title="Noise scale along training",
        caption="Beyond a batch of this size a larger one saves few steps; bars are intervals, "
        "without an upper end where that is not known.",
        x_label="optimizer step",
        y_label="samples",
        lines=tuple(_draw(label, noise, adapted=adapted) for label, adapted in lines.items()),
        log_x=False,
        log_y=True,
    )
    return Told(rows=(Row("Noise scale", describe_noise(noise)),), charts=(chart,))


def brief_noise(conclusions: Conclusions) -> Status | None:
    """Return the noise scale in a few words."""
    noise = conclusions.of(NOISE)
    if noise is None:
        return Status("Noise", conclusions.record.why_missing, "skipped")
    if noise.decisive is None or (noise.working is None and noise.decisive.high is None):
        return Status("Noise", noise.reason or "not estimated", "inconclusive")
    text = f"noise scale {format_noise_scale(noise.decisive)}; far larger batches gain little"
    is_known = noise.working is not None and noise.decisive.high is not None
    return Status("Noise", text, "measured" if is_known else "inconclusive")


def _draw(label: str, noise: NoiseConclusion, *, adapted: bool) -> Line:
    course = choose_metric(noise.points, adapted=adapted)
    return Line(label, place_estimates(each for each in course if (each[1].point or 0.0) > 0.0))


def describe_noise(noise: NoiseConclusion) -> str:
    """Return the noise scale with its interval, the one that the advice follows first."""
    decisive = noise.decisive
    if decisive is None:
        return f"not estimated: {noise.reason or 'no reason was recorded'}"
    if noise.working is None and decisive.high is None:
        return f"not known: {noise.reason}"
    confidence = f"{100 * decisive.confidence:.0f} %"
    figure = f"{format_noise_scale(decisive)} samples"
    if decisive.high is None:
        parts = [f"{figure} ({confidence})", "its upper end is unknown"]
    else:
        parts = [f"{figure}, {confidence} interval"]
    if noise.preconditioned_noise_scale is not None:
        parts[-1] += ", in the optimizer's own metric"
        parts.append(f"plain gradients: {format_noise_scale(noise.noise_scale)}")
    tokens = noise.tokens_per_sample
    if noise.sample_unit == "token" and tokens is not None:
        figure = format_noise_scale(decisive.map(lambda samples: tokens * samples))
        parts.append(f"{figure} tokens, at {format_number(tokens)} in a sample")
    return "; ".join([*parts, *([noise.reason] if noise.reason else [])])
