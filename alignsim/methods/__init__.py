"""Methods (data, loss, stages) on two training loops, one for preference pairs and one for on-policy data."""
