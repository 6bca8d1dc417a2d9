"""The entries of a study."""

from pathlib import Path

import pytest
import yaml

from soft.errors import SettingError
from soft.studies.study import Gate, parse_study, read_studies

REPOSITORY = Path(__file__).resolve().parents[2]
EXPERIMENTS = REPOSITORY / "experiments"
STUDIES = sorted(path for path in EXPERIMENTS.glob("*.yaml") if path.stem != "finetune")  # a recipe, and no study
SOFT, NONE = {"model.attention.attention": "soft"}, {"model.attention.attention": "none"}
SCALES = {"laptop": {"model/attention": ["none", "soft"], "seed": [0, 1]}, "paper": {}}


# What the grids of a study have that do not vary it.
UNVARIED = {"model.attention.inverse": "newton", "model.attention.landmark_gain": 1.0}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_is_well_formed_at_every_scale(path):
    entries = yaml.safe_load(path.read_text())["study"]
    for scale in entries.get("scales", {"laptop": {}}):
        study = parse_study(entries, scale)
        grids = entries.get("scales", {}).get(scale, [])
        varied = {}
        for grid in [grids] if isinstance(grids, dict) else grids:
            for key, values in grid.items():
                varied.setdefault(key.lstrip("+").replace("/", "."), []).extend(values)
        points = [study.reference, study.floor, study.ceiling]
        for key, value in ((key, value) for point in points if point for key, value in point.items()):
            found = varied.get(key, varied.get(key.removesuffix(".attention")))  # model.attention.attention is a group
            assert found is None or value in (*found, UNVARIED.get(key)), (scale, key, value)


def test_the_shared_entries_are_a_study_without_judgement():
    shared = yaml.safe_load((REPOSITORY / "conf" / "study.yaml").read_text())["study"]
    study = parse_study(shared)
    assert (study.reference, study.floor, study.ceiling, study.solved, study.pairs) == (None, None, None, None, [])
    assert study.gate == Gate()


def test_no_study_is_an_empty_one():
    assert parse_study({}).title is None


def test_what_varies_is_named_as_in_the_configuration():
    studies = {study.name: study for study in read_studies(EXPERIMENTS)}
    assert set(studies) == {path.stem for path in STUDIES} - {"sequence_length"}
    assert studies["landmarks"].varied == ("model.attention.num_landmarks", "model.attention.attention")
    assert studies["landmarks"].numeric == ("model.attention.num_landmarks",)
    assert studies["model_sizes"].varied == ("model.depth", "model.name")
    assert studies["model_sizes"].numeric == ("model.depth",)
    assert studies["newton_iterations"].numeric == ("model.attention.newton_iters",)
    with pytest.raises(SettingError, match=r"study=landmark trains nothing; it is one of .*landmarks"):
        read_studies(EXPERIMENTS, "landmark")


def test_entries_may_differ_by_scale():
    entries = {
        "scales": SCALES,
        "scale": "laptop",
        "reference": {"laptop": SOFT, "paper": NONE},
        "floor": NONE,
        "gate": {"ceiling_min": None, "floor_max": None, "laptop": {"floor_max": 30}},
        "solved": {"laptop": 95},
    }
    laptop, paper = parse_study(entries), parse_study(entries, "paper")
    assert (laptop.reference, laptop.floor, laptop.solved, laptop.gate) == (SOFT, NONE, 95, Gate(None, 30))
    assert (paper.reference, paper.floor, paper.solved, paper.gate) == (NONE, NONE, None, Gate())


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"reference": "soft"}, r"study\.reference='soft' has to be settings and their values"),
        ({"floor": {}}, r"study\.floor=\{\} has to be settings"),
        ({"gate": {"ceilling_min": 90}}, r"study\.gate=.*ceilling_min.* has to be \{ceiling_min: percent, floor_max"),
        ({"gate": {"floor_max": 130}, "floor": NONE}, r"study\.gate\.floor_max=130 .* from 0 to 100"),
        ({"gate": {"ceiling_min": 90}}, r"limits the study's ceiling; name it with study\.ceiling="),
        ({"solved": "most"}, r"study\.solved='most' has to be a number"),
        ({"pairs": "some"}, r"study\.pairs='some' has to be all, or a list of pairs"),
        ({"pairs": [[SOFT]]}, r"study\.pairs=.* has to be all, or a list of pairs"),
        ({"pairs": [[SOFT, "none"]]}, r"study\.pairs='none' has to be settings"),
    ],
    ids=str,
)
def test_other_forms_are_refused(entries, message):
    with pytest.raises(SettingError, match=message):
        parse_study(entries)
