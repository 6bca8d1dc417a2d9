"""The data module of generated tasks, whose inputs are integers."""

from functools import partial

from torch import Tensor
from torch.utils.data import Dataset

from soft.data.augmentation import Augmentation
from soft.data.batches import Batch, Sample
from soft.data.classification import ClassificationDataModule
from soft.data.datasets import check_options
from soft.data.facts import facts
from soft.data.image_sets import ImageSets
from soft.data.tasks.builders import TASKS
from soft.data.tasks.generated import SPLITS, GeneratedTask
from soft.data.tasks.kept_examples import KeptExamples, check_cache
from soft.errors import SettingError
from soft.settings import check_choice, check_flag, check_whole


class TaskDataModule(ClassificationDataModule):
    """Token ids or grey values and labels: batches of integers (B, fields, H, W) and (B,).

    An example is a function of (task_seed, split, index), and with `fresh_examples` of the epoch, whatever the run's
    seed, the devices and the workers are.

    Args:
        dataset: a name in `soft.data.tasks.builders.TASKS`.
        split: what validation and evaluation read: train, val or test; None for val.
        img_size: height and width in tokens; [1, N] for a sequence.
        train_examples, val_examples, test_examples: number of examples of each split.
        fresh_examples: draw other training examples in every epoch, as from a set without an end; else they repeat.
        task_seed: seed of the examples; a run's own seed is another one, so that all runs see the same data.
        cache: folder in which examples that repeat are kept, for later epochs and other runs; None for none.
        batch_size: examples of one optimiser step, over all devices and accumulated batches.
        val_batch_size: examples per device.
        num_workers: see `ClassificationDataModule`.
        augment: only its label smoothing may be on.
        seed: of the order.
        options: the task's own; the keywords of its builder. What is not given of them, of `img_size`, of
            `fresh_examples` and of the numbers of examples is taken from `soft.data.facts`.

    Raises:
        SettingError: an argument of the wrong type or out of range, or an augmentation that changes inputs.
    """

    example_name = "example"
    size_unit = "positions"

    def __init__(
        self,
        dataset: str,
        *,
        split: str | None = None,
        img_size: int | list[int] | None = None,
        train_examples: int | None = None,
        val_examples: int | None = None,
        test_examples: int | None = None,
        fresh_examples: bool | None = None,
        task_seed: int = 0,
        cache: str | None = None,
        batch_size: int = 64,
        val_batch_size: int = 256,
        num_workers: int | None = None,
        augment: Augmentation | None = None,
        seed: int = 0,
        **options,
    ):
        check_choice("`data.dataset`", dataset, TASKS)
        usual = dict(facts(dataset))
        usual_size, usual_numbers = usual.pop("img_size"), {name: usual.pop(f"{name}_examples") for name in SPLITS}
        usual_fresh = usual.pop("fresh_examples")
        img_size = usual_size if img_size is None else img_size
        super().__init__(dataset, split, img_size, batch_size, val_batch_size, num_workers, augment, seed)
        if not self.augment.keeps_images or self.augment.mixup or self.augment.cutmix:
            raise SettingError(
                f"An augmentation of images would change the answers of data={dataset}; choose augment=none, as "
                "model=soft_encoder does."
            )
        self.fresh_examples = usual_fresh if fresh_examples is None else fresh_examples
        check_flag("`data.fresh_examples`", self.fresh_examples)
        check_choice("`data.split`", split or "val", SPLITS)
        given = {"train": train_examples, "val": val_examples, "test": test_examples}
        numbers = {name: usual_numbers[name] if number is None else number for name, number in given.items()}
        for name, number in numbers.items():
            check_whole(f"`data.{name}_examples`", number, low=1)
        self.train_examples, self.val_examples, self.test_examples = (
            numbers[name] for name in ("train", "val", "test")
        )
        self.task_seed = task_seed
        self.options = usual | options
        build = partial(TASKS[dataset], task_seed=task_seed, img_size=img_size)
        check_options(dataset, build, {"size": None, "split": None, **self.options})
        train, val = (build(numbers[name], name, **self.options) for name in ("train", split or "val"))
        self.in_chans, self.vocabulary = train.fields, train.vocabulary
        if cache is not None:
            check_cache(cache)
        self.cache = cache
        self.sets = ImageSets(train, val, train.class_names)
        self.num_classes, self.class_names = train.num_classes, train.class_names
        self.train_size, self.val_size, self.notes = len(train), len(val), []

    def training_examples(self) -> Dataset:
        return Samples(self.sets.train if self.fresh_examples else self._kept(self.sets.train), self.fresh_examples)

    def validation_examples(self) -> Dataset:
        return Samples(self._kept(self.sets.val))

    def _kept(self, task: GeneratedTask) -> GeneratedTask | KeptExamples:
        return task if self.cache is None else KeptExamples(task, self.cache)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> tuple[Tensor, Tensor]:
        """Return a loader's batch as integers (B, fields, H, W) and labels (B,)."""
        self.batch_indices = batch.indices
        return batch.images, batch.labels


class Samples(Dataset):
    """A task in the form that the loaders gather, indexed by an index or, as in training, by (epoch, index).

    Args:
        task: the task.
        fresh: whether every epoch has examples of its own.
    """

    def __init__(self, task: GeneratedTask | KeptExamples, fresh: bool = False):
        self.task = task
        self.fresh = fresh

    def __len__(self) -> int:
        return len(self.task)

    def __getitem__(self, position: int | tuple[int, int]) -> Sample:
        epoch, index = position if isinstance(position, tuple) else (0, position)
        tokens, label = self.task.example(index, epoch if self.fresh else 0)
        return Sample(tokens, label, None, {}, None if isinstance(position, tuple) else index)
