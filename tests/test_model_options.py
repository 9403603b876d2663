"""What is said of the model and of missing pixels on the command line reaches the search, or is refused."""

import json
import re

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
from general_results import COUNT, IMAGE, SIDE, TURNS, drawn, restarts, truth

import jaxem
from jaxem.cli import app, claims, fitting
from jaxem.model.params import disc_support

ROWS, COLUMNS = IMAGE
SHAPE = ["--template-shape", SIDE, SIDE]
RNG = np.random.default_rng(6)
MASKS = (RNG.random((COUNT, *IMAGE)) > 0.3).astype(np.uint8)


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    """Programs compiled in this process are not kept: for the tests after these its configuration stays as it was."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/dev/null/nowhere")


@pytest.fixture(scope="module")
def found():
    """Frames, and a result that a search might find in them."""
    params = truth()
    images, positions = drawn(params)
    return images, restarts(params, positions, TURNS)


@pytest.fixture
def search(monkeypatch, found):
    """What a search is told; it finds the same at once whatever that is."""
    calls = []

    def find(key, images, template_shape, **options):
        calls.append({"images": images, **options})
        return found[1]

    monkeypatch.setattr(fitting, "fit_restarts_parallel", find)
    return calls


@pytest.fixture
def told(monkeypatch, search):
    """The same where nothing is assessed or written, which takes longest."""
    monkeypatch.setattr(claims.FittedFrames, "assess", lambda *_: None)
    monkeypatch.setattr(fitting, "write", lambda *_: None)
    monkeypatch.setattr(fitting, "exit_code", lambda _: 0)
    return search


@pytest.fixture
def files(tmp_path, found):
    images = found[0]
    np.save(tmp_path / "colour.npy", images)
    np.save(tmp_path / "grey.npy", images[..., 0])
    np.save(tmp_path / "masks.npy", MASKS)
    jaxem.save(tmp_path / "result.npz", found[1])
    return tmp_path


def fit(files, frames, *options):
    arguments = ["fit", files / frames, *SHAPE, "--no-test", *options]
    arguments += [] if "--out" in options else ["--out", files / "out"]
    return app.run([str(argument) for argument in arguments])


def test_a_picture_to_start_from_is_told_to_the_search_and_not_to_the_test(files, told, found, monkeypatch):
    tested = []
    monkeypatch.setattr(claims, "detection_test", lambda *_, **options: tested.append(options) or found[1])
    monkeypatch.setattr(fitting, "write", lambda frames, report, test, *_: test.result())
    picture = np.asarray(found[1].best.params.template)[0, ..., 0]
    np.save(files / "face.npy", picture)
    options = [*SHAPE, "--init", files / "face.npy", "--out", files / "out", "--quiet"]
    assert app.run([str(word) for word in ["fit", files / "grey.npy", *options]]) == 0
    np.testing.assert_array_equal(told[0]["init"], picture)
    assert len(tested) == 1
    assert "init" not in tested[0]


OF_THE_MODEL = {"num_templates", "absent", "support", "transforms", "boundary", "weights", "fixed"}


def test_what_is_not_said_is_not_told(files, told):
    assert fit(files, "grey.npy", "--mask", files / "masks.npy", "--quiet") == 0
    assert OF_THE_MODEL & set(told[0]) == {"weights"}
    assert fit(files, "grey.npy", "--quiet") == 0
    assert OF_THE_MODEL & set(told[1]) == set()


def test_all_of_it_reaches_the_search_and_is_said(files, search, found, capfd):
    background = f"background={files / 'result.npz'}"  # of which that array is meant
    options = ["--templates", 2, "--absent", "--turns", "--support", "disc", "--wrap", "--colour", "--fix", background]
    assert fit(files, "colour.npy", *options, "--fix", "noise_scale=9.5", "--mask", files / "masks.npy") == 0
    call = search[0]
    np.testing.assert_array_equal(call["images"], found[0])
    np.testing.assert_array_equal(call["weights"], MASKS)
    assert call["weights"].dtype == np.float32
    assert call["num_templates"] == 2
    assert call["transforms"] == TURNS
    assert (call["absent"], call["support"], call["boundary"]) == (True, "disc", "wrap")
    assert set(call["fixed"]) == {"background", "noise_scale"}
    np.testing.assert_array_equal(call["fixed"]["background"], found[1].best.params.background)
    assert call["fixed"]["noise_scale"] == 9.5
    assert {file.name for file in (files / "out").iterdir()} == {"result.npz", "positions.csv", "figure.png"}
    captured = capfd.readouterr()
    assert (
        f"in 3 channels from {files / 'colour.npy'}; {100 * MASKS.mean():.3g} % of their pixels count" in captured.out
    )
    best = found[1].best
    there = best.present
    assert "noise 8, 9, 10, contrast" in captured.out
    assert re.search(r"template 0 in \S+ %, template 1 in \S+ % of the frames\n", captured.out)
    assert re.search(r"identity in \S+ %, rot90 in \S+ %, rot180 in \S+ %, rot270 in \S+ % of the frames", captured.out)
    assert f"nothing in {100 * np.mean(~there):.3g} % of the frames ({(~there).sum()} of 24)" in captured.out
    assert fit(files, "colour.npy", *options, "--json", "--overwrite") == 0
    facts = next(line for line in map(json.loads, capfd.readouterr().out.splitlines()) if line["event"] == "result")
    assert facts["noise_scale"] == [8, 9, 10]
    shares = [np.mean((best.best_template == number) & there) for number in (0, 1)]
    np.testing.assert_allclose(facts["template_shares"], shares)
    assert list(facts["transform_shares"]) == list(TURNS)
    np.testing.assert_allclose(sum(facts["transform_shares"].values()) + facts["absent_share"], 1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--turns"], TURNS),
        (["--mirrors"], ("identity", "flip")),
        (["--turns", "--mirrors"], (*TURNS, "flip", "flip90", "flip180", "flip270")),
    ],
)
def test_turns_and_mirrors(files, told, options, expected):
    assert fit(files, "grey.npy", *options, "--quiet") == 0
    assert told[0]["transforms"] == expected


PICTURE = MASKS[0]
CHOICES = ["--crop", 1, 2, 8, 9, "--frames", "2:20", "--every", 3]
WINDOW = (slice(1, 9), slice(2, 11))


@pytest.mark.parametrize(
    ("mask", "options", "expected"),
    [
        (PICTURE, [], PICTURE),
        (PICTURE, CHOICES, PICTURE[WINDOW]),
        (PICTURE[WINDOW], CHOICES, PICTURE[WINDOW]),
        (PICTURE[None], CHOICES, PICTURE[WINDOW]),
        (MASKS, [], MASKS),
        (MASKS, CHOICES, MASKS[2:20:3, *WINDOW]),
        (MASKS[2:20:3], CHOICES, MASKS[2:20:3, *WINDOW]),
        (MASKS[2:20:3, *WINDOW], CHOICES, MASKS[2:20:3, *WINDOW]),
        (np.repeat(MASKS[..., None], 3, axis=-1) * np.array([0, 9, 0], np.uint8), [], MASKS),
        (np.repeat(PICTURE[None], COUNT, axis=0) * 0.5, [], PICTURE),
        (np.ones(IMAGE, bool), [], None),
    ],
)
def test_a_mask_goes_with_the_frames_that_are_chosen(files, told, mask, options, expected):
    np.save(files / "mask.npy", mask)
    assert fit(files, "grey.npy", "--mask", files / "mask.npy", *options, "--quiet") == 0
    if expected is None:
        assert "weights" not in told[0]
    else:
        np.testing.assert_array_equal(told[0]["weights"], expected)


def test_masks_in_pictures(files, told):
    imageio.imwrite(files / "mask.png", np.repeat(255 * PICTURE[..., None], 3, axis=-1))
    tifffile.imwrite(files / "mask.tif", MASKS)
    (files / "folder").mkdir()
    for number, mask in enumerate(MASKS):
        imageio.imwrite(files / "folder" / f"{number}.png", mask)
    for name, expected in (("mask.png", PICTURE), ("mask.tif", MASKS), ("folder", MASKS)):
        assert fit(files, "grey.npy", "--mask", files / name, "--quiet") == 0
        np.testing.assert_array_equal(told.pop()["weights"], expected, err_msg=name)


def test_missing_numbers_were_not_observed(files, told, found):
    holes = found[0].astype(np.float32)
    holes[3, 4, 5, 1] = holes[7, 0, 0] = np.nan
    expected = np.ones((COUNT, *IMAGE))
    expected[3, 4, 5] = expected[7, 0, 0] = 0
    np.save(files / "holes.npy", holes)
    assert fit(files, "holes.npy", "--nan-missing", "--colour", "--quiet") == 0
    np.testing.assert_array_equal(told[0]["weights"], expected)
    np.testing.assert_array_equal(told[0]["images"], holes)
    both = ["--nan-missing", "--colour", "--mask", files / "masks.npy", "--quiet"]
    assert fit(files, "holes.npy", *both) == 0
    np.testing.assert_array_equal(told[1]["weights"], MASKS * expected)
    dead = found[0][..., 0].astype(np.float32)
    dead[:, 2, 3] = np.nan
    np.save(files / "dead.npy", dead)
    assert fit(files, "dead.npy", "--nan-missing", "--quiet") == 0
    np.testing.assert_array_equal(told[2]["weights"], ~np.isnan(dead[0]))  # one map for all is cheaper
    assert fit(files, "colour.npy", "--nan-missing", "--quiet") == 0
    assert "weights" not in told[3]


def test_a_support_from_a_picture(files, told):
    support = disc_support((SIDE, SIDE)) * 77
    imageio.imwrite(files / "support.png", support.astype(np.uint8))
    assert fit(files, "grey.npy", "--support", files / "support.png", "--quiet") == 0
    np.testing.assert_array_equal(told[0]["support"], support > 0)


def test_what_is_known_comes_from_pictures_and_arrays(files, told, found):
    params = found[1].best.params
    imageio.imwrite(files / "background.png", found[0][0])
    prior = params.prior / params.prior.sum()
    np.savez(files / "known.npz", prior=prior, template=params.template, noise_scale=np.array([1, 2, 3]))
    known = [f"{name}={files / 'known.npz'}::{name}" for name in ("prior", "template", "noise_scale")]
    fixed = [word for value in known for word in ("--fix", value)]
    options = ["--templates", 2, "--turns", "--wrap", "--colour", "--fix", f"background={files / 'background.png'}"]
    assert fit(files, "colour.npy", *options, *fixed, "--quiet") == 0
    given = told[0]["fixed"]
    np.testing.assert_allclose(given["prior"], prior, rtol=1e-6)
    np.testing.assert_array_equal(given["template"], params.template)
    np.testing.assert_array_equal(given["noise_scale"], [1, 2, 3])
    np.testing.assert_array_equal(given["background"], found[0][0])
    grey = ["--grey", "green", "--crop", 0, 1, 9, 9, "--fix", f"background={files / 'background.png'}"]
    assert fit(files, "colour.npy", *grey, "--absent", "--fix", "absent=0.3", "--quiet") == 0
    np.testing.assert_array_equal(told[1]["fixed"]["background"], found[0][0, :9, 1:10, 1])
    assert told[1]["fixed"]["absent"] == 0.3
    np.save(files / "prior.npy", np.full((9 - SIDE + 1, 9 - SIDE + 1), 0.7 / (9 - SIDE + 1) ** 2))
    both = ["--fix", "absent=0.3", "--fix", f"prior={files / 'prior.npy'}"]
    assert fit(files, "colour.npy", *grey, "--absent", *both, "--quiet") == 0
    np.testing.assert_allclose(told[2]["fixed"]["prior"].sum(), 0.7)


def test_a_checkpoint_is_of_one_mask_and_one_of_everything(files, told, capfd):
    np.save(files / "background.npy", np.ones(IMAGE))
    np.save(files / "support.npy", np.eye(SIDE))
    begun = ["--checkpoint", files / "saved", "--mask", files / "masks.npy", "--support", files / "support.npy"]
    begun += ["--fix", f"background={files / 'background.npy'}", "--quiet"]
    assert fit(files, "grey.npy", *begun) == 0
    assert fit(files, "grey.npy", *begun, "--resume") == 0

    def refused(*more):
        assert fit(files, "grey.npy", *begun, "--resume", *more) == 2
        return capfd.readouterr().err

    capfd.readouterr()
    for name, option, array in (
        ("masks.npy", "--mask", MASKS[::-1]),
        ("support.npy", "--support", np.ones((SIDE, SIDE))),
        ("background.npy", "--fix", np.zeros(IMAGE)),
    ):
        before = (files / name).read_bytes()
        np.save(files / name, array)
        assert f"is of other work: its {option} is " in refused()
        (files / name).write_bytes(before)
    (files / "moved.npy").write_bytes((files / "masks.npy").read_bytes())
    assert fit(files, "grey.npy", *begun, "--resume", "--mask", files / "moved.npy") == 0
    for option in ("--turns", "--mirrors", "--absent", "--wrap"):
        assert f"its {option} is False, and here it is True" in refused(option)
    assert "its --templates is 1, and here it is 2" in refused("--templates", 2)


def wrong(files, name):
    masks = {
        "small mask": MASKS[:, :4], "few masks": MASKS[:5], "few of few": MASKS[:5], "empty mask": 0 * MASKS,
        "flat mask": np.ones(3),
        "support of another shape": np.ones((SIDE, SIDE + 1)), "empty support": np.zeros((SIDE, SIDE)),
        "small background": np.ones((4, 4)), "grey background": np.ones(IMAGE), "prior": np.ones((7, 9)),
        "text": np.array(["text"]), "nan": np.full(IMAGE, np.nan), "many noises": np.ones(3),
        "pixels": np.where(MASKS, np.nan, 1.0), "all nan": np.full((3, *IMAGE), np.nan), "negative noise": -np.ones(()),
    }  # fmt: skip
    file = files / "given.npy"
    if name in masks:
        np.save(file, masks[name])
    (files / "no.png").write_text("no picture")
    mask, support, background = ["--mask", file], ["--support", file], ["--fix", f"background={file}"]
    return {
        "small mask": (
            "grey.npy",
            mask,
            r"--mask takes pictures as large as the frames, 11 x 13, but .*given.npy is 4 x 13\.",
        ),
        "few masks": ("grey.npy", mask, r"--mask must hold 1 or 24 pictures, but .*given.npy holds 5\."),
        "few of few": ("grey.npy", [*mask, "--every", 2], "--mask must hold 1 or 12 or 24 pictures, but .* holds 5"),
        "empty mask": ("grey.npy", mask, "--mask must leave some pixels, but .*given.npy leaves none of the frames'"),
        "flat mask": ("grey.npy", mask, r"--mask must be a picture or a stack of them, but .* has shape \(3,\)"),
        "no mask": ("grey.npy", ["--mask", files / "none.png"], "--mask: .*none.png does not exist"),
        "no picture": ("grey.npy", ["--mask", files / "no.png"], "--mask: .*no.png cannot be read as an image"),
        "support of another shape": (
            "grey.npy",
            support,
            r"--support must be 5 x 5 for these frames and this template, but .*given.npy is 5 x 6\.",
        ),
        "empty support": ("grey.npy", support, "--support must leave something of the template, but .* is all zero"),
        "no support": ("grey.npy", ["--support", "circle"], "--support: circle does not exist"),
        "no templates": ("grey.npy", ["--templates", 0], r"--templates must be at least 1, but is 0\."),
        "text for templates": ("grey.npy", ["--templates", "x"], "--templates.*'x' is not a whole number"),
        "oblong": (
            "grey.npy",
            ["--turns", "--template-shape", 4, 5],
            r"--turns hold quarter turns, which need a square template, but it is \(4, 5\)",
        ),
        "unknown field": (
            "grey.npy",
            ["--fix", "foreground=1"],
            "--fix must be one of background=FILE, .*'foreground=1'",
        ),
        "no value": ("grey.npy", ["--fix", "background"], "--fix must be one of .*, but is 'background'"),
        "twice": ("grey.npy", ["--fix", "absent=0", "--fix", "absent=0.1"], "--fix names absent twice; give it once"),
        "no file": ("grey.npy", ["--fix", "prior=none.npy"], "--fix: none.npy does not exist"),
        "no number": ("grey.npy", ["--fix", "noise_scale=high"], "--fix: high does not exist"),
        "no member": (
            "grey.npy",
            ["--fix", f"template={files / 'result.npz'}::face"],
            "--fix: .*result.npz has no array face",
        ),
        "small background": (
            "grey.npy",
            background,
            "--fix takes pictures as large as the frames, 11 x 13, but background=.*given.npy is 4 x 4",
        ),
        "grey background": (
            "colour.npy",
            [*background, "--colour"],
            "--fix must be 11 x 13 x 3 for these frames and this template, but .* is 11 x 13",
        ),
        "prior": (
            "grey.npy",
            ["--fix", f"prior={file}"],
            "--fix must be of probabilities that sum to one .* sum to 63",
        ),
        "prior of another shape": (
            "grey.npy",
            ["--fix", f"prior={files / 'masks.npy'}"],
            "--fix must be 7 x 9 for these frames and this template, but prior=.* is 24 x 11 x 13",
        ),
        "prior alone": (
            "grey.npy",
            ["--absent", "--fix", f"prior={files / 'prior.npy'}"],
            "--fix of prior needs absent=NUMBER beside",
        ),
        "text": ("grey.npy", background, "--fix: .*given.npy must hold real numbers"),
        "nan": ("grey.npy", background, "--fix must be of finite numbers, but background=.*given.npy is not"),
        "many noises": (
            "grey.npy",
            ["--fix", f"noise_scale={file}"],
            "--fix must be one number for these frames and this template, but noise_scale=.* is 3",
        ),
        "no noise": ("grey.npy", ["--fix", "noise_scale=0"], "--fix must be above zero .* but is noise_scale=0"),
        "negative noise": ("grey.npy", ["--fix", f"noise_scale={file}"], "--fix must be above zero"),
        "absent without": ("grey.npy", ["--fix", "absent=0.3"], "--fix of absent needs --absent"),
        "always absent": (
            "grey.npy",
            ["--absent", "--fix", "absent=1"],
            "--fix must be at least 0 and below 1 .*absent=1",
        ),
        "wrapped": (
            "grey.npy",
            ["--wrap", "--template-shape", 12, 5],
            r"--template-shape \(12, 5\) is larger than the images",
        ),
        "large in colour": (
            "colour.npy",
            ["--colour", "--template-shape", 12, 5],
            r"is larger than the images \(11, 13\); choose",
        ),
        "no colour": ("grey.npy", ["--colour"], "--colour keeps the channels of colour, but .*grey.npy is grey"),
        "colour and grey": (
            "colour.npy",
            ["--colour", "--grey", "red"],
            "--colour and --grey exclude each other; choose",
        ),
        "pixels": (
            "given.npy",
            [],
            r"FRAMES: .*frame 0 \(counted from 0\) holds NaN; --nan-missing takes such pixels for missing",
        ),
        "all nan": ("given.npy", ["--nan-missing"], "FRAMES: .*given.npy holds nothing but NaN"),
    }[name]


WRONG = [
    "small mask", "few masks", "empty mask", "flat mask", "no mask", "no picture", "support of another shape",
    "empty support", "no support", "no templates", "text for templates", "oblong", "unknown field", "no value", "twice",
    "no file", "no number", "no member", "small background", "grey background", "prior", "prior of another shape",
    "prior alone", "text", "nan", "many noises", "no noise", "negative noise", "absent without", "always absent",
    "wrapped", "large in colour", "no colour", "colour and grey", "pixels", "all nan",
    "few of few",
]  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_gets_one_line_and_exit_code_2(files, told, capfd, name):
    np.save(files / "prior.npy", np.full((7, 9), 1 / 63))
    frames, options, pattern = wrong(files, name)
    before = sorted(files.rglob("*"))
    assert fit(files, frames, *options) == 2
    error = capfd.readouterr().err
    assert re.fullmatch(f"jaxem: .*{pattern}.*\n", error), error
    assert sorted(files.rglob("*")) == before
    assert told == []


@pytest.mark.slow
def test_a_search_with_all_of_it(files, found):
    options = ["--templates", 2, "--absent", "--turns", "--support", "disc", "--wrap", "--colour", "--nan-missing"]
    images = found[0].astype(np.float32)
    images[MASKS == 0] = np.nan
    np.save(files / "holes.npy", images)
    assert fit(files, "holes.npy", *options, "--quiet") in (0, 3)
    best = jaxem.load(files / "out" / "result.npz").best
    assert best.params.prior.shape == (2, 4, *IMAGE)
    assert best.transforms.tolist() == [0, 1, 2, 3]
    arguments = ["locate", files / "holes.npy", "--model", files / "out" / "result.npz", "--nan-missing"]
    assert app.run([*map(str, arguments), "--out", str(files / "places")]) == 0
    with np.load(files / "places" / "positions.npz") as places:
        np.testing.assert_array_equal(places["present"], best.present)
