"""Rankers: different ways to score a user's candidates, each trained and written to be served on its own."""
