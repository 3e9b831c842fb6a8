"""The table of models: every channel and every ranker of a release, served, measured and drawn."""
