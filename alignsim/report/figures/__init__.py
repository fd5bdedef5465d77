"""Figures of a study, one message each. Nothing here computes more than it shows."""
