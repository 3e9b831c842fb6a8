"""Checking and measuring the stages on a GPU; tools/bench_gpu.py is the command."""
