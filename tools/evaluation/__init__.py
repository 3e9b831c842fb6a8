"""How good a release is: metrics, baselines on the same split, and the report's page."""
