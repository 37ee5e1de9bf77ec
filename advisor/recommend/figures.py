"""Figures in sentences: three significant digits, whole numbers exactly."""


def render_figure(value: float) -> str:
    """Return three significant digits without an exponent: `0.0123`, `1.5`, `12300`."""
    rounded = float(f"{value:.3g}")
    if abs(rounded) >= 100.0:
        return f"{rounded:.0f}"
    return f"{rounded:.15f}".rstrip("0").rstrip(".") if abs(rounded) >= 1e-4 else f"{rounded:.3g}"


def render_percent(fraction: float) -> str:
    """Return a fraction in per cent, two significant digits below 100 %."""
    value = 100.0 * fraction
    digits = f"{float(f'{value:.2g}'):g}" if value < 100.0 else f"{value:.0f}"
    return f"{digits} %"
