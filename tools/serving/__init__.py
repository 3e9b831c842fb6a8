"""Run a real Triton Inference Server from the PyPI wheel `nvidia-pytriton`, without a container."""
