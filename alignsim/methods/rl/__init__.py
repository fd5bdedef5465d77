"""How a policy is improved against a reward: one file for each optimizer, `conf/method/rl/`."""
