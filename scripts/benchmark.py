"""How fast this machine trains, against the plain way: python scripts/benchmark.py --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout runs as it is, installed or not

try:
    from scripts.benchmarking.command import main
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    main()
