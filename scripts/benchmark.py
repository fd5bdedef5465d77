"""How fast this machine trains, against the plain way: python scripts/benchmark.py --help."""

import sys

try:
    from alignsim.benchmark.command import main
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    main()
