"""Draw and summarise a study: python scripts/plot.py --help."""

import sys

try:
    from alignsim.cli import plot
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    plot()
