"""Draw and summarise a study: python scripts/plot.py --help."""

from alignsim.cli import plot

if __name__ == "__main__":
    plot()
