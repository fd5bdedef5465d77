"""Conditions, trained safely: what runs, where, what is stored of it, and how a sweep of them goes."""
