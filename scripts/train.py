"""Train one condition, or with -m several: python scripts/train.py --help."""

import sys

try:
    from alignsim.cli import train
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    train()
