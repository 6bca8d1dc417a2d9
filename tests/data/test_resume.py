"""A run that goes on from a checkpoint, anywhere in an epoch, trains on the images that were due."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from soft.data.augmentation import Augmentation
from tests.marks import slow


class Recorder(LightningModule):
    """Trains a little and remembers what it saw."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3 * 16 * 16, 10)
        self.seen = []

    def training_step(self, batch, batch_idx):
        images, labels = batch
        self.seen.append((self.current_epoch, batch_idx, images.clone(), labels.clone()))
        return torch.nn.functional.cross_entropy(self.layer(images.flatten(1)), labels)

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveEverywhere(Callback):
    def __init__(self, folder: Path):
        self.folder = folder

    def on_train_batch_end(self, trainer, module, *_):
        trainer.save_checkpoint(self.folder / f"batch-{len(module.seen)}.ckpt")

    def on_validation_end(self, trainer, module):
        trainer.save_checkpoint(self.folder / f"validation-{len(module.seen)}.ckpt")

    def on_train_epoch_end(self, trainer, module):
        trainer.save_checkpoint(self.folder / f"epoch-{len(module.seen)}.ckpt")


def train(make, num_workers: int, accumulated: int, callbacks=(), checkpoint: Path | None = None) -> list:
    module = Recorder()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        accumulate_grad_batches=accumulated,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = make(batch_size=480, val_batch_size=360, num_workers=num_workers, augment=Augmentation(erase_prob=0.5))
    trainer.fit(module, data, ckpt_path=checkpoint)
    return module.seen


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("num_workers", [0, slow(2)])
def test_a_resumed_run_sees_what_the_uninterrupted_one_would_have(make, tmp_path, num_workers):
    # Two steps of two micro-batches an epoch. Lightning starts the workers of a resumed run before it names the epoch.
    whole = train(make, 0, 2, [SaveEverywhere(tmp_path)])
    assert len(whole) == 8

    for name in ("batch-2", "batch-4", "validation-4", "epoch-4", "batch-6"):
        resumed = train(make, num_workers, 2, checkpoint=tmp_path / f"{name}.ckpt")
        rest = whole[int(name.split("-")[1]) :]

        assert [step[:2] for step in resumed] == [step[:2] for step in rest], name
        for (*_, images, labels), (*_, due_images, due_labels) in zip(resumed, rest, strict=True):
            assert torch.equal(images, due_images), name
            assert torch.equal(labels, due_labels), name
