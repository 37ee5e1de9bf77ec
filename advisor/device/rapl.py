"""Energy of the processor's packages, by the counters that Linux shows under `powercap`.

Intel's and AMD's processors both stand there as `intel-rapl`. Packages are summed; their parts
(cores, memory) and the platform as a whole are not, for they would count the same energy twice.
"""

from pathlib import Path

from advisor.device.data import Counter
from advisor.device.reading import Reader, lack, lacking

_ROOT = Path("/sys/class/powercap")

_J_PER_UJ = 1e-6


class PackageEnergy:
    """The joules of all packages since some time in the past; never falls while it is read.

    The counters start again at zero beyond their range, within half an hour under load. A turn is
    seen as long as readings come more often than that.

    Args:
        root: Directory of the zones.
    """

    def __init__(self, root: Path = _ROOT) -> None:
        self._zones = _list_packages(root)
        self._last_uj: dict[Path, int] = {}
        self._turns_uj = 0

    def read_j(self) -> float:
        """Return the energy.

        Raises:
            PermissionError: The counters are for the administrator alone.
            OSError: There are none.
        """
        if not self._zones:
            raise FileNotFoundError("no package has an energy counter")
        readings = {zone: _read_number(zone / "energy_uj") for zone in self._zones}
        for zone, now_uj in readings.items():
            if now_uj < self._last_uj.get(zone, 0):
                self._turns_uj += _read_number(zone / "max_energy_range_uj")
        self._last_uj = readings
        return (sum(readings.values()) + self._turns_uj) * _J_PER_UJ


def open_package_energy(name: str, root: Path = _ROOT) -> Reader:
    """Return a reader of the packages' energy in joules, under the name."""
    try:
        energy = PackageEnergy(root)
    except OSError as error:
        return lacking((name,), _reason(error))
    return Reader((name,), lambda: _read(name, energy))


def _read(name: str, energy: PackageEnergy) -> tuple[Counter, ...]:
    try:
        return (Counter(name=name, value=energy.read_j(), unit="J"),)
    except (OSError, ValueError) as error:
        return lack((name,), _reason(error))


def _list_packages(root: Path) -> tuple[Path, ...]:
    zones = sorted(root.glob("intel-rapl:*"))
    return tuple(zone for zone in zones if _is_package(zone))


def _is_package(zone: Path) -> bool:
    is_part = zone.name.count(":") > 1
    return not is_part and (zone / "name").read_text().startswith("package")


def _read_number(path: Path) -> int:
    return int(path.read_text())


def _reason(error: Exception) -> str:
    return "no_permission" if isinstance(error, PermissionError) else "not_supported"
