"""A folder with good and bad files of every kind is checked, trained on and evaluated from the command line."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.command import run, run_fresh

RUN = ("data=imagenet", "model=soft_pico", "data.img_size=32", "data.batch_size=8", "data.num_workers=2")
SHORT = ("schedule=cosine_short", "schedule.epochs=2", "schedule.warmup_epochs=0", "augment=light")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Return a folder with 36 images of two classes, four of them unreadable, and the names of these four."""
    root = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 6)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(256, size=(60, 80, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{index}.jpg")
    cat, dog, val = root / "train" / "cat", root / "train" / "dog", root / "val" / "dog"
    image = Image.open(cat / "0.jpg")
    image.convert("CMYK").save(cat / "1.jpg", "JPEG")
    image.save(cat / "2.jpg", "GIF", save_all=True, append_images=[image.rotate(90)] * 2)
    Image.fromarray(random.integers(2**16, size=(40, 40), dtype=np.uint16)).save(cat / "3.jpg", "PNG")
    exif = Image.Exif()
    exif[0x010E] = "a description long enough to lie outside its entry"
    image.save(cat / "4.jpg", exif=exif.tobytes()[:-30])
    bad = {
        dog / "0.jpg": b"",
        dog / "1.jpg": (dog / "1.jpg").read_bytes()[:-500],
        dog / "2.jpg": _png_of_900_million_pixels(),
        val / "3.jpg": b"<html>404 Not Found</html>",
    }
    for file, content in bad.items():
        file.write_bytes(content)
    return root, [str(file) for file in bad]


def _png_of_900_million_pixels() -> bytes:
    content = io.BytesIO()
    Image.new("1", (8, 8)).save(content, "PNG")
    content = bytearray(content.getvalue())
    content[16:24] = struct.pack(">II", 30000, 30000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


@pytest.mark.slow
def test_check_train_and_evaluate(tree, tmp_path):
    root, bad = tree
    checked = run_fresh("verify_data.py", f"data.root={root}", "data.num_workers=2", cwd=tmp_path, expect=2)
    for name in bad:
        assert sum(line.startswith(f"{name}: ") for line in checked.stdout.splitlines()) == 1
    assert "ERROR: 4 of 36 images of data=imagenet cannot be read" in checked.stderr

    trained = run("train.py", *RUN, *SHORT, f"data.root={root}", "hydra.run.dir=trained", cwd=tmp_path)
    folder = tmp_path / "trained"
    log = (folder / "train.log").read_text()
    for text in (trained.stderr, log):
        for name in bad:
            assert text.count(f"{name} cannot be read as an image") == 1, "once, in two epochs and two workers"
        assert "EXIF" not in text
        assert "Warning" not in text
    assert "(4 of at most max_bad_images=100)" in log
    facts = json.loads((folder / "result.json").read_text())["facts"]
    assert facts["steps"] == 2 * (24 // 8), "no step is lost"

    checkpoint = folder / "checkpoints" / "last.ckpt"
    evaluated = run("evaluate.py", f"checkpoint={checkpoint}", "hydra.run.dir=evaluation", cwd=tmp_path)
    assert json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())["images"] == 11
    assert "It is left out." in evaluated.stderr

    stopped = run("train.py", *RUN, *SHORT, f"data.root={root}", "data.max_bad_images=2", cwd=tmp_path, expect=2)
    (error,) = [line for line in stopped.stderr.splitlines() if line.startswith("ERROR: ")]
    assert "bad image number 3 with data.max_bad_images=2" in error
    assert "Traceback" not in stopped.stderr

    for name in bad:
        (root / name).unlink()
    assert "All 32 images can be read." in run("verify_data.py", f"data.root={root}", cwd=tmp_path).stdout
