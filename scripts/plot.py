"""Draw and summarize a study: python scripts/plot.py --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout runs as it is, installed or not

try:
    from alignsim.cli.main import plot
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    plot()
