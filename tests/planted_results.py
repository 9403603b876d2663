"""Results made by hand, of every kind that can be drawn: no search, no assessment is run for them."""

import jax
import numpy as np

import jaxem
from jaxem.assess.detection import nothing_tested
from jaxem.model.appearances import numbers_of
from jaxem.model.predict import reconstruct
from jaxem.search.stage_record import StageRecord
from jaxem.search.stages import StageKind

COUNT = 12


def planted(
    image, template, *, channels=None, templates=1, transforms=("identity",), absent=False, wrap=False,
    opacity=None, unseen=None, seed=3,
):  # fmt: skip
    """A `jaxem.Report` and the images it is of."""
    rng = np.random.default_rng(seed)
    last = () if channels is None else (channels,)
    stack = (templates,) if templates > 1 else ()
    turns = (len(transforms),) if len(transforms) > 1 else ()
    corners = image if wrap else tuple(size - part + 1 for size, part in zip(image, template, strict=True))
    prior = rng.dirichlet(np.full(int(np.prod((*stack, *turns, *corners))), 0.4)).reshape(*stack, *turns, *corners)
    floats = (
        5 + 3 * rng.normal(size=(*stack, *template, *last)), rng.normal(size=(*image, *last)), 0.5,
        prior * (0.6 if absent else 1), 0.4 if absent else None, opacity,
    )  # fmt: skip
    params = jaxem.Params(*(None if part is None else np.asarray(part, "float32") for part in floats))
    where = [rng.integers(0, size, COUNT) for size in corners]
    present = np.arange(COUNT) % 3 > 0 if absent else None
    positions = jaxem.Positions(
        np.stack(where, axis=1).astype("int32"),
        None,
        rng.integers(0, templates, COUNT).astype("int32") if stack else None,
        rng.integers(0, len(transforms), COUNT).astype("int32") if turns else None,
        present,
    )
    clean = np.stack(list(reconstruct(positions, params, transforms)))
    images = (clean + 0.5 * rng.normal(size=clean.shape)).astype("float32")
    return jaxem.Report(_found(params, positions, transforms, unseen), _claims(params, positions, rng)), images


def _found(params, positions, transforms, unseen):
    number = np.float32(1)
    history = np.array([-900, -500, -490, np.nan], "float32")
    best = jaxem.Fit(
        params, history[2], history, np.int32(2), np.int32(jaxem.Status.CONVERGED), np.int32(3), number,
        positions.corners, positions.template, positions.transform, positions.present, numbers_of(transforms),
    )  # fmt: skip
    best = jax.tree.map(np.asarray, best)
    runs = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), best)
    runs = runs._replace(elbo=np.array([-700, -490], "float32"))
    unseen = np.zeros(params.background.shape[:2], bool) if unseen is None else unseen
    count = np.int32(unseen.sum())
    diagnostics = jaxem.Diagnostics(number, np.int32(1), np.int32(30), number, number, count, np.bool_(False), unseen)
    kinds = [
        StageKind.ANNEAL,
        StageKind.ANNEAL,
        StageKind.TRIAL,
        StageKind.RECENTRE,
        StageKind.CENTRE,
        StageKind.CONVERGE,
    ]
    record = StageRecord(
        np.array(kinds, "int32"),
        np.array([0, 1, 0, 0, 0, 0], "int32"),
        np.array([8, 9, 2, 0, 4, 7], "int32"),
        np.array([-700, -600, -800, np.nan, np.nan, -490], "float32"),
        np.array([True, True, False, False, False, True]),
    )
    return jaxem.Restarts(best, runs, diagnostics, record)


def _claims(params, positions, rng):
    confidence = np.linspace(1, 0.4, COUNT).astype("float32")
    located = jaxem.Located(
        positions.corners, confidence, confidence, positions.template, positions.transform, positions.present,
        None if positions.present is None else confidence,
    )  # fmt: skip
    errors = jax.tree.map(lambda leaf: np.full_like(leaf, 0.1), params)
    errors = errors._replace(template=(0.1 + 0.1 * rng.random(params.template.shape)).astype("float32"))
    one, each = np.float32(1), np.ones(COUNT, "float32")
    by_pixel = (1 + 0.1 * rng.normal(size=params.background.shape)).astype("float32") ** 2
    residuals = jaxem.ResidualStatistics(one, one, one, one, one, one, one, by_pixel, each, each, each)
    test = jax.device_get(nothing_tested(COUNT, one.dtype))
    size = np.int32(params.prior.size)
    return jaxem.Assessment(located, np.float32(40), np.float32(0.5), errors, residuals, test, size)
