"""The stages on a GPU, in PyTorch; the only room of python_backend that imports torch."""
