"""Figures in sentences: three significant digits, whole numbers exactly."""


def render_figure(value: float) -> str:
    """Return three significant digits down to 0.0001 in plain digits: `0.0123`, `12300`."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:.0f}" if abs(rounded) >= 100.0 else f"{rounded:g}"


def render_percent(fraction: float) -> str:
    """Return a fraction in per cent, two significant digits below 100 %."""
    value = 100.0 * fraction
    digits = f"{float(f'{value:.2g}'):g}" if value < 100.0 else f"{value:.0f}"
    return f"{digits} %"
