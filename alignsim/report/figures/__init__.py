"""Figures of a study, with one message each. Nothing is computed here that is not shown."""
