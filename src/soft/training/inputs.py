"""Whether a model can read what a data module gives."""

from lightning.pytorch import LightningDataModule
from timm.layers import to_2tuple
from torch import nn

from soft.errors import SettingError


def check_inputs(model: nn.Module, datamodule: LightningDataModule) -> None:
    """Refuse data whose inputs the model cannot read, before anything is computed.

    Models and data modules that say nothing about inputs pass. A model says `in_chans`, `img_size` if it takes no other
    one, and `vocabulary` and `embedding_kind` if it takes integers; a data module is a `ClassificationDataModule`.

    Raises:
        SettingError: the data has integers or images where the model takes the other, or does not fit it in size.
    """
    data = f"data={datamodule.dataset}"
    vocabulary, in_chans = getattr(datamodule, "vocabulary", None), getattr(datamodule, "in_chans", None)
    known, kind = getattr(model, "vocabulary", None), getattr(model, "embedding_kind", None)
    if vocabulary is not None and known is None:
        raise SettingError(
            f"{data} gives integers, token ids or grey values, and this model takes images. Choose model=soft_encoder, "
            "or a data set of images such as data=digits."
        )
    if vocabulary is None and in_chans is not None and kind == "table":
        raise SettingError(
            f"{data} gives images, and `model.embedding`=table takes token ids. Set `model.embedding`=linear, or "
            "choose a task such as data=recall."
        )
    if vocabulary is not None and (vocabulary > known or (kind == "linear" and vocabulary != known)):
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
    size, own = to_2tuple(datamodule.img_size), getattr(model, "img_size", None)
    if own is not None and tuple(size) != tuple(own):
        raise SettingError(
            f"The model takes inputs of {own[0]}x{own[1]} alone, and {data} gives {size[0]}x{size[1]}; set "
            f"`data.img_size` to {list(own)}."
        )


def input_shape(model: nn.Module, img_size: int | tuple[int, int]) -> tuple[int, int, int]:
    """Return channels, height and width of one input of the model at `img_size`."""
    return (getattr(model, "in_chans", 3), *to_2tuple(img_size))
