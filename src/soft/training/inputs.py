"""Checks that a model can read what a data module gives, and that both mean the same classes."""

from lightning.pytorch import LightningDataModule
from timm.layers import to_2tuple
from torch import nn

from soft.data.classes import match_classes
from soft.data.preprocessing import preprocessing_differences
from soft.errors import SettingError
from soft.models.metadata import own_class_names
from soft.models.variants import LAYOUTS


def check_model_choice(name: str, datamodule: LightningDataModule) -> None:
    """Refuse a pyramid for data of integers by its name alone, before it is built.

    With few tokens, building a pyramid would fail with an error that does not name this reason.

    Raises:
        SettingError: the data has token ids or grey values, and the model of this name takes images.
    """
    if getattr(datamodule, "vocabulary", None) is not None and name in LAYOUTS:
        raise _images_alone(datamodule, f"model={name}")


def check_inputs(model: nn.Module, datamodule: LightningDataModule) -> None:
    """Refuse data whose inputs the model cannot read, before anything is computed.

    Models and data modules that say nothing about their inputs pass. A SOFT model says `in_chans`, and a `SoftEncoder`
    `img_size`, `vocabulary` and `embedding_kind` too; a data module is a `ClassificationDataModule`.

    Raises:
        SettingError: the data has integers and the model takes images, or the other way round, or the sizes do not fit.
    """
    data = f"data={getattr(datamodule, 'dataset', 'this')}"
    vocabulary, in_chans = getattr(datamodule, "vocabulary", None), getattr(datamodule, "in_chans", None)
    known, kind = getattr(model, "vocabulary", None), getattr(model, "embedding_kind", None)
    if vocabulary is not None and known is None and hasattr(model, "in_chans"):
        raise _images_alone(datamodule, "this model")
    if vocabulary is None and in_chans is not None and kind == "table":
        raise SettingError(
            f"{data} gives images, and `model.embedding`=table takes token ids. Set `model.embedding`=linear, or "
            "choose a task such as data=recall."
        )
    if None not in (vocabulary, known) and (vocabulary > known or (kind == "linear" and vocabulary != known)):
        fit = f"to {vocabulary}" if kind == "linear" else f"to at least {vocabulary}"
        raise SettingError(
            f"`model.vocabulary`={known} does not fit the {vocabulary} values of the integers of {data}; set "
            f"`model.vocabulary` {fit}."
        )
    if in_chans is not None and getattr(model, "in_chans", in_chans) != in_chans:
        raise SettingError(
            f"`model.in_chans`={model.in_chans}, but {data} has {in_chans} values per position; set `model.in_chans` "
            f"to {in_chans}."
        )
    if kind is not None and tuple(own := model.img_size) != tuple(size := to_2tuple(datamodule.img_size)):
        raise SettingError(
            f"The model takes inputs of {own[0]}x{own[1]} alone, and {data} gives {size[0]}x{size[1]}; set "
            f"`data.img_size` to {list(own)}."
        )


def num_classes_of(model: nn.Module) -> int:
    """Return a classifier's number of classes.

    Raises:
        SettingError: the model does not say it.
    """
    classes = getattr(model, "num_classes", None)
    if classes is None:
        raise SettingError(
            f"The {type(model).__name__} has no attribute num_classes; set model.num_classes to its number of outputs."
        )
    return classes


def check_num_classes(model: nn.Module, datamodule: LightningDataModule) -> None:
    """Refuse to train a model whose outputs are not as many as the classes of the data, which is set up.

    Raises:
        SettingError: they differ, or the model does not say how many outputs it has.
    """
    outputs, classes = num_classes_of(model), datamodule.num_classes
    if outputs != classes:
        raise SettingError(
            f"The model has {outputs} classes and the data {classes}; build the model with num_classes={classes}. "
            "A data module may know its number, data.num_classes, only after data.setup()."
        )


def match_to_model(model: nn.Module, datamodule: LightningDataModule) -> tuple[list[int], list[str]]:
    """Find the classes of a data set among those of a model, by the names in the model's `pretrained_cfg`.

    Args:
        model: a classifier with `num_classes`.
        datamodule: a `ClassificationDataModule` that is set up.

    Returns:
        The model's class for each class of the data, and sentences that a reader of an evaluation has to know. Among
        them are differences of the preprocessing, where the model is known to carry that of its training.

    Raises:
        SettingError: the data has classes that the model does not know.
    """
    trained = getattr(model, "pretrained_cfg", None) or {}
    names = own_class_names(model)
    match = match_classes(names, num_classes_of(model), datamodule.class_names)
    used, differences = datamodule.preprocessing, []
    if names is not None:  # without names, it may hold what timm takes for an untrained model
        known = {"img_size": tuple(trained["input_size"][1:]), **trained} if "input_size" in trained else trained
        differences = preprocessing_differences({name: known[name] for name in known if name in used}, used)
    notes = [match.note, *(f"Images are prepared in another way: {text}." for text in differences)]
    return match.indices, [note for note in notes if note]


def _images_alone(datamodule: LightningDataModule, model: str) -> SettingError:
    return SettingError(
        f"data={datamodule.dataset} gives integers, token ids or grey values, and {model} takes images. Choose "
        "model=soft_encoder, or a data set of images such as data=digits."
    )


def input_shape(model: nn.Module, img_size: int | tuple[int, int]) -> tuple[int, int, int]:
    """Return channels, height and width of one input of the model at `img_size`."""
    return (getattr(model, "in_chans", 3), *to_2tuple(img_size))
