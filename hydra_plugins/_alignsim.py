"""Where Hydra finds the plug-ins of alignsim by name; they are written in `alignsim/cli/hydra_plugins.py`.

Hydra 1.3 builds sweepers and launchers of this namespace only. The underscore keeps other Hydra applications of the
same Python from importing this file; alignsim registers the plug-ins when it sweeps.
"""

from alignsim.cli.hydra_plugins import PlannedSweeper, ReportingLauncher

__all__ = ["PlannedSweeper", "ReportingLauncher"]
