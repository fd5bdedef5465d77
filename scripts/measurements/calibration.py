"""How often intervals of a mean cover it, and how often tests are wrong, for seeds of several kinds.

python -m scripts.measurements.calibration
"""

import numpy as np

from alignsim.analysis.statistics import LEVEL, mean_intervals, superiority_p

NOISE = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "heavy-tailed (t, 3 degrees of freedom)": lambda rng, shape: rng.standard_t(3, shape),
    "skewed (exponential)": lambda rng, shape: rng.exponential(size=shape) - 1,
    "very skewed (lognormal)": lambda rng, shape: rng.lognormal(size=shape) - np.exp(0.5),
}


def main(samples_per_size: int = 2000) -> None:
    """Print one line for each number of seeds and kind of noise."""
    print("seeds  noise                                    95 % BCa covers   wrongly above 0   wrongly below 0")
    for n in (8, 16, 32):
        for name, noise in NOISE.items():
            samples = noise(np.random.default_rng(0), (samples_per_size, n))
            # one by one: rows that are given together share their resamples
            intervals = [mean_intervals(sample[None])[0] for sample in samples]
            covered = np.mean([interval.low <= 0 <= interval.high for interval in intervals])
            above = np.mean([superiority_p(sample) < LEVEL for sample in samples])
            below = np.mean([superiority_p(-sample) < LEVEL for sample in samples])
            print(f"{n:>5}  {name:<40} {covered:>12.1%} {above:>17.1%} {below:>17.1%}", flush=True)


if __name__ == "__main__":
    main()
