"""A release's way into a Kubernetes cluster: the volume, the Deployment, the Service."""
