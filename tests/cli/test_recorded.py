"""The recipe in a checkpoint, with what an evaluation takes in its place."""

from cli.recorded import evaluated_recipe, recorded_data

RECORDED = {
    "seed": 3,
    "model": {"name": "soft_pico", "attention": {"attention": "soft", "newton_iters": 20}},
    "data": {"dataset": "digits", "root": None, "img_size": 32},
}
UNTYPED = {"model": {"attention": {"newton_iters": None}}, "data": {"root": None, "img_size": None}}


def test_what_was_not_typed_stays_as_it_was_trained():
    assert evaluated_recipe(RECORDED, UNTYPED) == RECORDED


def test_typed_settings_take_the_place_of_recorded_ones():
    given = {"model": {"attention": {"newton_iters": 5}}, "data": {"root": "https://me:hunter2hunter2@host/images"}}
    recipe = evaluated_recipe(RECORDED, given)
    assert recipe["model"]["attention"] == {"attention": "soft", "newton_iters": 5}
    assert recipe["data"] == {"dataset": "digits", "root": "https://me:***@host/images", "img_size": 32}
    assert RECORDED["model"]["attention"]["newton_iters"] == 20


def test_a_group_that_is_chosen_anew_keeps_nothing_recorded():
    given = UNTYPED | {"data": {"dataset": "fake", "root": None}}
    assert evaluated_recipe(RECORDED, given, chosen=["data"])["data"] == {"dataset": "fake"}
    assert evaluated_recipe(None, given, chosen=["data"]) == {"model": {"attention": {}}, "data": {"dataset": "fake"}}


def test_another_folder_of_imagenet_is_named(tmp_path, caplog):
    (tmp_path / "b").mkdir()
    recorded, env = {"dataset": "imagenet", "root": str(tmp_path / "a")}, {"IMAGENET_ROOT": str(tmp_path / "b")}
    assert recorded_data(recorded, {}, "x.ckpt", env)["root"] == str(tmp_path / "b")
    assert f"data.root={tmp_path / 'a'}, which is not here: $IMAGENET_ROOT, {tmp_path / 'b'}, is read" in caplog.text
