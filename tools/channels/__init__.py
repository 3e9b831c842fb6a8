"""Retrieval channels: different ways to find candidates, each trained and written to be served on its own."""
