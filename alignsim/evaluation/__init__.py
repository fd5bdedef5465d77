"""How good a policy is: its value, its regret and where the regret comes from."""
