"""`python -m alignsim train ...` and `python -m alignsim plot ...`: the two commands without the scripts folder."""

from __future__ import annotations

import sys

COMMANDS = ("train", "plot")


def main() -> None:
    """Run the command that the first argument names; exit code 2 where it names none."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in COMMANDS:
        print(f"python -m alignsim {name}: must be one of {', '.join(COMMANDS)}, see `--help` of each", file=sys.stderr)
        sys.exit(2)
    from alignsim.cli import main as commands

    sys.argv[:2] = [f"alignsim {name}"]
    getattr(commands, name)()


if __name__ == "__main__":
    main()
