"""Policies and reward models, all seeds stacked, on one kind of network."""
