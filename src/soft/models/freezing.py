"""Parts of a model that a training leaves as they are, by the groups into which timm divides the layers."""

from collections.abc import Iterable, Iterator

from timm.models import group_parameters
from torch import nn

from soft.errors import SettingError

BACKBONE = "backbone"  # everything but the classifier


def list_parts(model: nn.Module) -> dict[str, list[str]]:
    """Return the names of the parameters in each part that can be frozen: stem, stage1, stage2 ... and backbone."""
    head = {id(parameter) for parameter in model.get_classifier().parameters()}
    backbone = [name for name, parameter in model.named_parameters() if id(parameter) not in head]
    layers = group_parameters(model, model.group_matcher(coarse=True))
    last = max(layers)  # the final normalisation, with the classifier
    parts = {f"stage{layer}" if layer else "stem": names for layer, names in layers.items() if layer < last}
    return {**parts, BACKBONE: backbone}


def freeze(model: nn.Module, parts: str | Iterable[str] = (), batchnorm: bool = False) -> str:
    """Exclude parts of a model from training, see `rest_frozen`; return a sentence about it, "" if nothing is frozen.

    Args:
        model: a SOFT model.
        parts: of `list_parts`.
        batchnorm: freeze all BatchNorm layers too.

    Raises:
        SettingError: a part that the model does not have.
    """
    known, parts = list_parts(model), [parts] if isinstance(parts, str) else list(parts or ())
    for part in parts:
        if not isinstance(part, str) or part not in known:
            raise SettingError(f"finetune.freeze={part!r} is not a part of the model; it is one of {', '.join(known)}.")
    frozen = {name for part in parts for name in known[part]}
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad = False
    if batchnorm:
        for module in _batchnorms(model):
            module.requires_grad_(False)
    rest_frozen(model)
    if not parts and not batchnorm:
        return ""
    what = " and ".join(filter(None, [", ".join(parts), "all BatchNorm layers" if batchnorm else ""]))
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in model.parameters())
    return f"Frozen: {what}; {trained:,} of {total:,} parameters are trained."


def rest_frozen(model: nn.Module) -> None:
    """Put the modules whose parameters are all frozen in evaluation mode.

    Dropout is then off, and BatchNorm uses its running statistics and keeps them. No layer is replaced, as timm's
    `freeze` does with BatchNorm, so that a checkpoint has the same keys whatever was frozen.
    """
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def _batchnorms(model: nn.Module) -> Iterator[nn.Module]:
    return (module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
