"""From trained models to a release: artifacts, manifest, checks."""
