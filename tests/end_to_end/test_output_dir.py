"""Each command makes the folder that `output_dir` names."""

import pytest

from tests.end_to_end.test_benchmark import MODEL
from tests.invoke import invoke
from tests.marks import slow

CHECKPOINT = "checkpoint=run/checkpoints/best.ckpt"


@pytest.mark.parametrize(
    ("words", "files"),
    [
        (["visualize.py", CHECKPOINT, "image=3", "stage=1"], {"attention_maps.png", "attention_maps.json"}),
        (["predict.py", CHECKPOINT, "images=picture.png"], {"predictions.csv", "predictions.json"}),
        (["export.py", CHECKPOINT, "format=safetensors"], {"model.safetensors", "config.json", "README.md"}),
        (["train.py", "preflight=true", "trainer=cpu"], {"preflight.txt"}),
        slow(["benchmark.py", "parts=[model]", *MODEL], {"models.csv"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_new_folder(words, files, digits, photographs):
    folder = digits[0].parent
    photographs[0].save(folder / "picture.png")
    done = invoke(*words, "output_dir=a/new", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert files <= {file.name for file in (folder / "a" / "new").iterdir()}
