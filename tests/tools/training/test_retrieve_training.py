"""One loop for one process and for many: parts of a batch, and going on where a run stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from toy import HISTORY, features_of, random_interactions, retrieve_config

from tools.checks import CheckFailed
from tools.config.training import DistributedConfig
from tools.training.retrieve_training import Trainer, train_retriever
from tools.training.retriever import Retriever
from tools.training.snapshot import AnotherRunError, load_snapshot, save_snapshot

N_USERS, N_ITEMS = 24, 30
EVENTS, FEATURES = random_interactions(N_USERS, N_ITEMS), features_of(N_USERS, N_ITEMS)
SETTINGS = {"retrieve.width": 8, "events": "abc"}


def trainer_of(distributed: dict[str, object] | None = None, **changes: object) -> Trainer:
    config = retrieve_config(**{"negatives": 16, **changes})
    settings = DistributedConfig.model_validate({"precision": "float32", **(distributed or {})})
    return Trainer(EVENTS, FEATURES, config, history=HISTORY, seed=1, distributed=settings)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_a_large_model_in_one_process_is_trained_as_a_build_trains() -> None:
    """To the bit, although the inside of blocks is computed twice."""
    trainer = trainer_of(dropout=0.1, distributed={"recompute": True})
    trainer.run()
    model, curve = train_retriever(
        EVENTS, FEATURES, retrieve_config(negatives=16, dropout=0.1), history=HISTORY, seed=1
    )
    assert torch.equal(weights(trainer.model), weights(model))
    assert trainer.curve == curve


@pytest.mark.parametrize("loss", ["full", "sampled"])
@pytest.mark.parametrize("parts", [3, 12])
def test_parts_of_a_batch_make_the_steps_of_the_whole(loss: str, parts: int) -> None:
    """More parts than rows leave some empty, and those do not count."""
    whole, cut = trainer_of(loss=loss), trainer_of(loss=loss, distributed={"accumulate": parts})
    for trainer in (whole, cut):
        trainer.run()
    assert [row["loss"] for row in cut.curve] == pytest.approx([row["loss"] for row in whole.curve], rel=1e-5)
    # Adam divides by the size of gradients, so where there are almost none rounding is all there is.
    assert torch.allclose(weights(cut.model), weights(whole.model), atol=1e-4)


@pytest.mark.parametrize("loss", ["full", "sampled"])
@pytest.mark.parametrize("stop", [2, 7, 10])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path, loss: str, stop: int) -> None:
    """To the bit: in the middle of an epoch, and right behind its last step."""
    undisturbed = trainer_of(loss=loss, dropout=0.1)
    undisturbed.run()

    stopped = trainer_of(loss=loss, dropout=0.1)
    path = tmp_path / "checkpoint.pt"

    def after_step() -> None:
        if stopped.done == stop:
            save_snapshot(path, stopped, SETTINGS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.run(after_step=after_step)
    torch.manual_seed(99)  # whatever the new process has drawn before
    again = trainer_of(loss=loss, dropout=0.1)
    assert load_snapshot(path, again, SETTINGS)
    assert again.done == stop
    again.run()
    assert again.curve == undisturbed.curve
    assert torch.equal(weights(again.model), weights(undisturbed.model))
    assert undisturbed.steps == 5  # so that 10 is the end of an epoch


def test_without_a_checkpoint_a_run_begins_anew(tmp_path: Path) -> None:
    assert not load_snapshot(tmp_path / "checkpoint.pt", trainer_of(), SETTINGS)


def test_a_checkpoint_of_another_run_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_snapshot(path, trainer_of(), SETTINGS)
    with pytest.raises(AnotherRunError, match=r"retrieve.width was 8, is 16; .*--fresh"):
        load_snapshot(path, trainer_of(), SETTINGS | {"retrieve.width": 16})


@pytest.mark.parametrize("content", [b"", b"PK and nothing else"])
def test_what_is_no_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(CheckFailed, match=r"checkpoint.pt: was not written by tools/train_large.py"):
        load_snapshot(path, trainer_of(), SETTINGS)


@pytest.mark.parametrize("loss", ["full", "sampled"])
def test_half_precision_learns_about_the_same_and_keeps_weights_whole(loss: str) -> None:
    full, half = trainer_of(loss=loss), trainer_of(loss=loss, distributed={"precision": "bf16"})
    for trainer in (full, half):
        trainer.run()
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.float32}
    losses = [[row["loss"] for row in trainer.curve] for trainer in (half, full)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_the_model_makes_its_tensors_where_it_is() -> None:
    """On the meta device, which refuses to calculate with tensors of the CPU as a GPU does."""
    model = Retriever(retrieve_config(), FEATURES, HISTORY).to("meta")
    vectors = model.items()
    histories = torch.zeros(3, HISTORY, dtype=torch.int32, device="meta")
    users = torch.zeros(3, FEATURES.users.shape[1], dtype=torch.int32, device="meta")
    queries = model.tower(users, histories, vectors[:HISTORY].expand(3, -1, -1))
    assert queries.shape == (3, HISTORY, 8)
    assert queries.device.type == "meta"
