"""Train one condition, or with -m several: python scripts/train.py --help."""

from alignsim.cli import train

if __name__ == "__main__":
    train()
