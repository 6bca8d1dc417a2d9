"""The model in ONNX, for ONNX Runtime and the many programs that read this format: model.onnx."""

import contextlib
import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from soft.errors import SettingError
from soft.export.output_check import MAX_ERROR, check_difference, example_inputs, largest_difference, place_for

MAX_HALF_ERROR = 2e-2  # of float16, relative to the largest logit; twenty times its rounding


def export_onnx(
    model: nn.Module,
    path: Path,
    img_size: tuple[int, int],
    metadata: Mapping[str, object] | None = None,
    half_batch: int | None = None,
    integers: bool = False,
) -> float:
    """Write `model` as an ONNX file with the input `images` (B, in_chans, height, width) and the output `logits`.

    Args:
        model: the model in evaluation mode on the CPU, in float32, such as `optimise_for_inference` returns.
        path: the file to write.
        img_size: height and width.
        metadata: is kept in the file's metadata, each value as JSON.
        half_batch: write the model in float16 for this fixed B; None for float32 and any B. The attention's kernel and
            its inverse stay in float32.
        integers: the model takes token ids or grey values.

    Returns:
        The largest difference between the logits of `model` and those that ONNX Runtime computes from the file,
        relative to the largest logit.

    Raises:
        SettingError: ONNX has no operator for a part of the model, or the difference is too large; nothing is written.
    """
    import onnxruntime
    import onnxscript  # noqa: F401  torch.onnx needs it; where it is missing, the ImportError from here names it

    inverses = {module.inverse for module in model.modules() if isinstance(getattr(module, "inverse", None), str)}
    if other := sorted(inverses - {"newton"}):
        raise SettingError(
            f"{path.name} was not written: ONNX has no operator for the attention's inverse={other[0]}. Models with "
            "inverse=newton can be exported to it; format=pt2 and format=safetensors take this one."
        )
    images = example_inputs(model, half_batch or 2, img_size, integers)
    options = {"input_names": ["images"], "output_names": ["logits"], "dynamo": True, "verbose": False}
    if half_batch is None:
        source, any_batch = model, ({0: torch.export.Dim("batch", min=1)},)
    else:
        source, images, any_batch = copy.deepcopy(model).half(), images if integers else images.half(), None
    try:
        with _quiet():
            program = torch.onnx.export(source, (images,), dynamic_shapes=any_batch, **options)
    except torch.onnx.OnnxExporterError as error:
        reasons = [line.partition("'>: ")[2] for line in str(error).splitlines() if "Error'>: " in line]
        reason = (reasons or str(error).splitlines())[0]
        raise SettingError(
            f"{path.name} was not written: PyTorch cannot convert this model to ONNX ({reason})."
        ) from error
    program.model.metadata_props.update({key: json.dumps(value) for key, value in (metadata or {}).items()})

    with place_for(path) as file:
        program.save(file)
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

        def run(images: Tensor) -> Tensor:
            given = images if half_batch is None or integers else images.half()
            return torch.from_numpy(session.run(None, {"images": given.numpy()})[0])

        batches = (1, 3) if half_batch is None else (half_batch,)
        difference = largest_difference(model, run, img_size, batches, integers)
        check_difference(path.name, difference, MAX_ERROR if half_batch is None else MAX_HALF_ERROR)
    return difference


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's steps, optimisations and advice off the screen and out of the log."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
