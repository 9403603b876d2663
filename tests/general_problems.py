"""Random problems of the general model, and all that its parts say of them beside what enumeration says.

Shared by the tests and by ``bench/combinations.py``.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import jaxem
from jaxem.assess import reference as oracle

TRANSFORMS = [("identity",), ("identity", "rot180"), ("identity", "flip"), ("rot90", "identity", "flip270")]


class Problem(NamedTuple):
    images: np.ndarray
    params: jaxem.Params
    weights: np.ndarray | None
    frame_weights: np.ndarray | None
    transforms: tuple[str, ...]
    name: str


def sample(rng, params, num_images, transforms):
    """Images of the model, in NumPy."""
    every = list(oracle.hypotheses(params, transforms))
    absent = 0.0 if params.absent is None else params.absent
    probs = np.array([params.prior[one.place] for one in every] + [absent])
    numbers = rng.choice(len(probs), num_images, p=probs / probs.sum())
    scenes = [*(oracle.scene(params, one) for one in every), params.background]
    clean = np.stack([scenes[number] for number in numbers])
    return clean + params.noise_scale * rng.normal(size=clean.shape)


def random_options(rng):
    """Some on, some off."""
    return {
        "weights": rng.choice(["none", "none", "shared mask", "shared", "mask", "own"]),
        "frames": rng.choice(["none", "none", "counts", "some zero"]),
        "support": bool(rng.integers(2)),
        "channels": rng.choice(["none", "none", "1", "2", "2 noises"]),
        "wrap": rng.choice(["none", "none", "rows", "both"]),
        "absent": bool(rng.integers(2)),
        "templates": rng.choice(["none", "none", "1", "2"]),
        "transforms": int(rng.integers(len(TRANSFORMS))),
    }


def draw(seed, **chosen):
    """A problem with some options, drawn at random unless chosen; images from near the parameters."""
    rng = np.random.default_rng(seed)
    options = random_options(rng) | chosen
    transforms = TRANSFORMS[options["transforms"]]
    shape, num_images = (5, 7), 4
    template = (3, 3) if any("90" in name or "270" in name for name in transforms) else (3, 2)
    channels = () if options["channels"] == "none" else (int(options["channels"][0]),)
    stack = () if options["templates"] == "none" else (int(options["templates"]),)
    rounds = {"none": (False, False), "rows": (True, False), "both": (True, True)}[options["wrap"]]
    positions = tuple(n if goes else n - m + 1 for n, m, goes in zip(shape, template, rounds, strict=True))
    prior_shape = (*stack, *((len(transforms),) if len(transforms) > 1 else ()), *positions)
    probs = rng.dirichlet(np.full(int(np.prod(prior_shape)) + 1, 2.0))
    noise_scale = np.array(0.6) if options["channels"] != "2 noises" else np.array([0.5, 0.9])
    params = jaxem.Params(
        2.3 + rng.normal(size=(*stack, *template, *channels)),
        1.4 + rng.normal(size=(*shape, *channels)),
        noise_scale,
        (probs[:-1] if options["absent"] else probs[:-1] / probs[:-1].sum()).reshape(prior_shape),
        probs[-1] if options["absent"] else None,
        (rng.random((*stack, *template)) < 0.7).astype(float) if options["support"] else None,
    )
    images = sample(rng, params, num_images, transforms)
    mask = rng.random((num_images, *shape)) < 0.8
    weights = {
        "none": None,
        "shared mask": mask[0].astype(float),
        "shared": rng.uniform(0.2, 3, shape) * mask[0],
        "mask": mask.astype(float),
        "own": rng.uniform(0.2, 3, mask.shape) * mask,
    }[options["weights"]]
    if weights is not None:
        hidden = np.broadcast_to(weights, images.shape[:3]) == 0
        images = np.where(hidden.reshape(*hidden.shape, *[1] * len(channels)), rng.choice([np.nan, 1e30, -7.0]), images)
    frame_weights = {"none": None, "counts": np.array([1.0, 3, 2, 1]), "some zero": np.array([0.0, 2.5, 1, 0])}
    name = ", ".join(f"{key} {value}" for key, value in options.items())
    return Problem(images, params, weights, frame_weights[options["frames"]], transforms, name)


def common(problem):
    return {"weights": problem.weights, "transforms": problem.transforms}


def as_dtype(problem, dtype):
    cast = lambda leaf: None if leaf is None else np.asarray(leaf, dtype)  # noqa: E731
    return problem._replace(
        images=cast(problem.images),
        params=jaxem.Params(*map(cast, problem.params)),
        weights=cast(problem.weights),
        frame_weights=cast(problem.frame_weights),
    )


def template_shape_of(problem):
    return problem.params.template.shape[int(problem.params.template.ndim > problem.params.background.ndim) :][:2]


def places_of(positions, problem):
    corners = np.asarray(positions.corners)
    columns = [np.asarray(one) for one in (positions.template, positions.transform) if one is not None]
    return [(*(int(column[k]) for column in columns), *map(int, corners[k])) for k in range(len(corners))]


class Comparison(NamedTuple):
    """One array of the library and what it should be."""

    what: str
    actual: Any
    expected: Any


def comparisons(problem, dtype, smoothings=(0.0, 2.5)) -> Iterator[Comparison]:
    """E-step, bound, log likelihood and M-step, soft and hard, in a precision, beside enumeration."""
    exact = problem
    problem = as_dtype(problem, dtype)
    given, like = common(problem), common(exact)
    images, params = problem.images, problem.params
    joint = oracle.log_joint(exact.images, exact.params, **like)
    absent = oracle.log_absent(exact.images, exact.params, exact.weights)
    evidence = oracle.log_likelihood(exact.images, exact.params, **like)

    soft = jaxem.e_step(images, params, **given)
    yield Comparison("posterior", soft.probs, oracle.posterior(exact.images, exact.params, **like))
    yield Comparison("log evidence", soft.log_evidence, evidence)
    yield Comparison("log likelihood", jaxem.log_likelihood(images, params, **given), evidence)
    if params.absent is not None:
        yield Comparison("posterior of none", soft.absent, np.exp(absent - evidence))

    hard = jaxem.e_step(images, params, hard=True, **given)
    highest = joint.reshape(len(joint), -1).max(axis=1)
    yield Comparison("hard log joint", hard.log_joint, np.maximum(highest, absent))
    one_hot, places = np.zeros(joint.shape), places_of(hard, exact)
    for k, place in enumerate(places):
        one_hot[(k, *place)] = 1
    # Two hypotheses may be the best in single precision: what is said must be as likely as the best.
    said = np.array([joint[(k, *place)] for k, place in enumerate(places)])
    yield Comparison("best place", said.astype(dtype), highest)
    gone = None if hard.present is None else 1.0 - np.asarray(hard.present)
    if gone is not None:
        one_hot *= (1 - gone).reshape(-1, *[1] * (one_hot.ndim - 1))
        yield Comparison("presence", np.where(gone, absent, highest).astype(dtype), np.maximum(highest, absent))

    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(joint[0].size + 1, 0.5), len(joint))
    q_absent = probs[:, -1] if params.absent is not None else None
    if q_absent is None:
        probs /= probs[:, :-1].sum(axis=1, keepdims=True)
    probs = probs[:, :-1].reshape(joint.shape)
    posterior = jaxem.Posterior(probs.astype(dtype), None, None if q_absent is None else q_absent.astype(dtype))
    frames = {"frame_weights": problem.frame_weights}
    exact_frames = {"frame_weights": 1.0 if exact.frame_weights is None else exact.frame_weights}
    for kind, found, q, q0 in (("", posterior, probs, q_absent), ("hard ", hard, one_hot, gone)):
        bound = jaxem.elbo(images, params, found, **given, **frames)
        yield Comparison(kind + "elbo", bound, oracle.elbo(exact.images, exact.params, q, q0, **like, **exact_frames))
        for smoothing in smoothings:
            shape = template_shape_of(exact)
            after = jaxem.m_step(images, found, shape, prior_smoothing=smoothing, params=params, **given, **frames)
            expected = oracle.m_step(exact.images, q, exact.params, smoothing, q0, **like, **exact_frames)
            for what, *arrays in m_step_comparisons(after, expected, exact):
                yield Comparison(f"{kind}m_step: {what}", *arrays)


def m_step_comparisons(after, expected, problem) -> Iterator[Comparison]:
    before = problem.params
    template = np.where(np.isnan(expected.template), before.template, expected.template)
    yield Comparison("template", after.template, template)
    seen = np.isfinite(expected.background)
    yield Comparison("background", np.asarray(after.background)[seen], expected.background[seen])
    variance = expected.variance if before.noise_scale.ndim else expected.variance.mean()
    yield Comparison("variance", after.noise_scale**2, variance)
    yield Comparison("prior", after.prior, expected.prior)
    if before.absent is not None:
        yield Comparison("absent", after.absent, expected.absent)
