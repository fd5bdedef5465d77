"""The version of alignsim, which pyproject.toml reads here, and those of the packages that results depend on."""

from __future__ import annotations

from importlib import metadata

VERSION = "0.2.0"


def package_versions(*packages: str) -> dict[str, str]:
    """Returns the version of each package; alignsim itself need not be installed.

    Raises:
        PackageNotFoundError: another package is not installed.
    """
    return {name: VERSION if name == "alignsim" else metadata.version(name) for name in packages}
