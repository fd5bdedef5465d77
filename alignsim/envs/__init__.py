"""Environments: what a prompt, a response, a reward and a preference are, and what the best policy is."""
