"""A model's configuration under a tuning: only what the tuning names changes."""

from __future__ import annotations

from tritonclient.grpc.model_config_pb2 import ModelConfig

from tools.config.tuning import ModelTuning

THREADS = "threads"


def settings_of(config: ModelConfig) -> ModelTuning:
    """What `config` says of everything that can be tuned, as Triton takes it where it says nothing."""
    preferred = config.dynamic_batching.preferred_batch_size
    threads = config.parameters[THREADS].string_value if THREADS in config.parameters else ""
    return ModelTuning(
        instances=sum(group.count or 1 for group in config.instance_group) or 1,
        threads=int(threads) if threads else None,
        max_queue_delay_microseconds=config.dynamic_batching.max_queue_delay_microseconds,
        preferred_batch_size=max(preferred, default=config.max_batch_size) or None,
    )


def tune_config(config: ModelConfig, tuning: ModelTuning) -> None:
    """Write what `tuning` names into `config`.

    Triton puts waiting requests together up to the largest preferred batch size and not up to
    max_batch_size; with a queue delay only as long as none of them has waited for that long, without one
    always (tried on 2.51: with 8, no batch of 1,500 requests/s was larger). So the preferred size limits
    batches, and clients may go on sending as many rows as before. A size above max_batch_size means
    that one; `threads` is for models that have this parameter.
    """
    if tuning.instances is not None:
        for group in config.instance_group or [config.instance_group.add()]:
            group.count = tuning.instances
    if tuning.threads is not None and THREADS in config.parameters:
        config.parameters[THREADS].string_value = str(tuning.threads)
    batching = config.dynamic_batching
    if tuning.max_queue_delay_microseconds is not None:
        batching.max_queue_delay_microseconds = tuning.max_queue_delay_microseconds
    if tuning.preferred_batch_size is not None:
        batching.preferred_batch_size[:] = [min(tuning.preferred_batch_size, config.max_batch_size)]
