"""Images per second, where gradients are accumulated and where not."""

from types import SimpleNamespace

import pytest
import torch

from soft.monitoring import throughput


@pytest.mark.parametrize(("accumulate", "every"), [(1, 1), (1, 2), (4, 1), (4, 2)])
def test_a_logged_value_covers_the_time_since_the_last_one(accumulate, every, monkeypatch):
    clock, logged = [0.0], []
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: clock[0])
    trainer = SimpleNamespace(global_step=0, log_every_n_steps=every, world_size=2)
    module = SimpleNamespace(log=lambda name, value, on_step: logged.append(value.item()))
    callback = throughput.Throughput()
    callback.on_train_start(trainer, module)
    callback.on_train_epoch_start(trainer, module)
    for batch in range(8 * accumulate):
        clock[0] += 1.0 + batch  # each batch takes longer than the one before
        trainer.global_step = (batch + 1) // accumulate
        callback.on_train_batch_end(trainer, module, None, (None, torch.zeros(10)), batch)
    passes = accumulate * every
    logged = logged[passes - 1 :: passes]  # as Lightning does
    times = [sum(1.0 + batch for batch in range(start, start + passes)) for start in range(0, 8 * accumulate, passes)]
    assert logged == pytest.approx([20 * passes / time for time in times])
