"""Results come back from files to the bit, and what is no result is refused in one sentence."""

import io
import os
import pickle
import random
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import random_params

import jaxem
from jaxem.io import results


@pytest.fixture(scope="module")
def found():
    truth = jax.tree.map(
        lambda leaf: np.asarray(leaf, "float32"), random_params(np.random.default_rng(3), (6, 7), (2, 3))
    )
    images, _ = jaxem.simulate(jax.random.key(0), truth, 12)
    options = {"search": None, "num_restarts": 2, "max_iterations": 3}
    return images, jaxem.fit_restarts(jax.random.key(1), images, (2, 3), **options)


def same(one, other):
    assert type(one) is type(other)
    leaves = jax.tree.leaves(one), jax.tree.leaves(other)
    for a, b in zip(*leaves, strict=True):
        assert isinstance(b, np.ndarray)
        a = np.asarray(a)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    assert jax.tree.structure(one) == jax.tree.structure(other)


def test_every_result_comes_back_to_the_bit(found, tmp_path):
    images, restarts = found
    params = restarts.best.params
    hostile = params._replace(template=np.full((2, 3), np.nan), background=np.asarray(params.background, "float64"))
    fortran = params._replace(background=np.asfortranarray(params.background))
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf, leaf]), restarts)
    claims = jaxem.assess_fit(images, restarts)
    check = claims.test._replace(p_value=np.float32(0.05), gains=np.arange(len(images), dtype="f4"))
    by_hand = jaxem.Params([[1, 2]], np.zeros((3, 4), ">f8"), 0.5, np.full((3, 3), 1 / 9, "float16"))
    for result in (
        restarts, restarts.best, restarts.runs, restarts.diagnostics, params, hostile, fortran, several, several.best,
        check, claims, claims.located, claims.residuals, jaxem.Report(restarts, claims),
        jaxem.e_step(images, params), jaxem.e_step(images, params, hard=True),
        jaxem.Posterior(np.full((2, 3, 3), 1 / 9)), jaxem.Positions(np.array([[1, 2]])),
        jaxem.annealing(), jaxem.Schedule(np.ones(0), np.ones(0)),
    ):  # fmt: skip
        path = tmp_path / "result.npz"
        jaxem.save(path, result)
        same(result, jaxem.load(str(path)))
    jaxem.save(path, by_hand)
    assert jaxem.load(path).background.dtype == np.dtype(">f8")
    assert jaxem.load(path).noise_scale == 0.5
    assert [file.name for file in tmp_path.iterdir()] == ["result.npz"]
    assert jaxem.load(path).template.flags.writeable


def test_names_are_plain_to_numpy(found, tmp_path):
    jaxem.save(tmp_path / "restarts", found[1])
    with np.load(tmp_path / "restarts", allow_pickle=False) as arrays:
        names = set(arrays)
        assert list(arrays["jaxem"]) == ["Restarts", "1", jaxem.__version__]
        np.testing.assert_array_equal(arrays["template"], found[1].best.params.template)
        np.testing.assert_array_equal(arrays["runs.elbo"], found[1].runs.elbo)
    assert {"background", "noise_scale", "prior", "elbo", "history", "status", "corners", "entropy"} < names
    assert {"runs.template", "runs.status", "diagnostics.gap", "diagnostics.num_steps"} < names
    assert not any("best" in name or "params" in name for name in names)


def test_a_failed_write_leaves_the_old_file(found, tmp_path, monkeypatch):
    path, link = tmp_path / "result.npz", tmp_path / "link.npz"
    jaxem.save(path, found[1])
    link.symlink_to(path)
    before = path.read_bytes()

    def fail(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space"):
            jaxem.save(path, found[1].best)
    assert path.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.npz", "result.npz"]
    jaxem.save(link, found[1].best)
    assert link.is_symlink()
    assert isinstance(jaxem.load(path), jaxem.Fit)


def test_what_cannot_be_saved(found, tmp_path):
    path, params = tmp_path / "x.npz", found[1].best.params
    with pytest.raises(TypeError, match=r"result must be one of Params, .* but is dict"):
        jaxem.save(path, {})
    with pytest.raises(TypeError, match="params must be a Params, but is tuple"):
        jaxem.save(path, found[1].best._replace(params=(1, 2)))
    with pytest.raises(TypeError, match="template must be an array of real numbers"):
        jaxem.save(path, params._replace(template=np.array([[object()]])))
    with pytest.raises(TypeError, match="elbo must be an array of real numbers, but is None"):
        jaxem.save(path, found[1].best._replace(elbo=None))
    with pytest.raises(TypeError, match="noise_scale is being traced"):
        jax.jit(lambda scale: jaxem.save(path, params._replace(noise_scale=scale)))(1.0)
    with pytest.raises(ValueError, match=r"prior is not \(H-h\+1, W-w\+1\)"):
        jaxem.save(path, params._replace(prior=np.ones((2, 2))))
    assert list(tmp_path.iterdir()) == []


def plain(found, path):
    jaxem.save(path, found[1])
    with np.load(path) as arrays:
        return dict(arrays)


def header(*words):
    return np.array(words)


def shape_claim(shape):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue() + bytes(8)


CHANGES = {
    "no header": (lambda a: a.pop("jaxem"), "no array named jaxem"),
    "odd header": (lambda a: a.update(jaxem=np.ones(3)), "array named jaxem is not what"),
    "unknown kind": (lambda a: a.update(jaxem=header("Model", "1", "0.1")), "it holds 'Model', and what is known is"),
    "newer": (lambda a: a.update(jaxem=header("Fit", "2", "9.0")), "jaxem '9.0' wrote it in format 2, .* up to 1"),
    "odd format": (lambda a: a.update(jaxem=header("Fit", "x", "9.0")), "its format is 'x'"),
    "missing": (lambda a: a.pop("runs.elbo"), "lacks 'runs.elbo' for Restarts"),
    "surplus": (lambda a: a.update(more=np.ones(3)), "has 'more' too many"),
    "other kind": (lambda a: a.update(jaxem=header("Params", "1", "0.1")), "too many for Params"),
    "prior": (lambda a: a.update(prior=np.ones((4, 4))), "shape .* does not fit"),
    "ranks": (lambda a: a.update(template=np.ones(3)), "template does not fit"),
    "runs": (lambda a: a.update({"runs.elbo": np.ones(5)}), "runs.elbo does not fit"),
    "history": (lambda a: a.update(history=np.ones(9)), "history does not fit"),
    "empty": (lambda a: a.update({"history": a["history"][:0], "runs.history": a["runs.history"][:, :0]}), "is empty"),
    "float status": (lambda a: a.update(status=np.array(1.0)), "status holds float64"),
    "odd status": (lambda a: a.update(status=np.array(77)), "status holds numbers that it cannot have"),
    "corners": (lambda a: a.update(corners=a["corners"] + 100), "corners holds numbers"),
    "corners next to the last": (lambda a: a.update(corners=a["corners"] * 0 + [[5, 0]]), "corners holds numbers"),
    "corners half nowhere": (lambda a: a["corners"].__setitem__(0, -1), "corners holds numbers"),
    "leading axes": (lambda a: a.update(elbo=np.ones(3)), "elbo does not fit"),
    "all iterations": (lambda a: a.update(num_iterations=np.array(a["history"].size)), "num_iterations holds numbers"),
    "no iterations": (lambda a: a.update(num_iterations=np.array(-1)), "num_iterations holds numbers"),
    "float truth": (lambda a: a.update({"diagnostics.at_noise_floor": np.array(0.5)}), "floor holds float64"),
    "iterations": (lambda a: a.update(num_iterations=np.array(99)), "num_iterations holds numbers"),
    "text": (lambda a: a.update(template=np.array([["a", "b"]])), "template holds <U1"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_no_result_is_refused(found, tmp_path, name):
    change, pattern = CHANGES[name]
    path = tmp_path / "x.npz"
    arrays = plain(found, path)
    change(arrays)
    np.savez(path, **arrays)
    with pytest.raises(
        ValueError, match=f"x.npz is no result that this jaxem can read: .*{pattern}.*; give one"
    ) as error:
        jaxem.load(path)
    assert "\n" not in str(error.value)


def test_what_is_no_archive_is_refused(found, tmp_path):
    path = tmp_path / "x.npz"
    arrays = plain(found, path)
    sound = path.read_bytes()
    np.save(tmp_path / "stack.npy", np.ones((2, 3)))

    def archive(name, data, compression=zipfile.ZIP_STORED):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", compression) as written:
            written.writestr(name, data)
        return stream.getvalue()

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "mark"), "w"))

    objects = io.BytesIO()
    np.savez(objects, **{**arrays, "template": np.array([Evil()], object)})
    twice = io.BytesIO(sound)
    with zipfile.ZipFile(twice, "a") as written, pytest.warns(UserWarning, match="Duplicate"):
        written.writestr("prior.npy", b"")
    for data in (
        b"", b"hello", (tmp_path / "stack.npy").read_bytes(), pickle.dumps(Evil()), objects.getvalue(),
        sound[: len(sound) // 2], sound[:-30], archive("prior.npy", shape_claim((2**40, 2**20))),
        archive("prior.npy", shape_claim((-1, 2))), archive("prior.npy", b"no array"), twice.getvalue(),
        archive("prior.npy", bytes(2**26), zipfile.ZIP_BZIP2),
    ):  # fmt: skip
        path.write_bytes(data)
        is_archive = data.startswith(b"PK")
        said = (
            r"x\.npz is damaged \(.*\); give a result that" if is_archive else r"x\.npz is no result; give the result"
        )
        with pytest.raises(ValueError, match=said):
            jaxem.load(path)
    assert not (tmp_path / "mark").exists()
    with pytest.raises(ValueError, match="is not a file"):
        jaxem.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        jaxem.load(tmp_path / "nothing")


def test_changed_bytes_are_noticed_or_harmless(found, tmp_path):
    path = tmp_path / "x.npz"
    jaxem.save(path, found[1].best)
    sound, generator = path.read_bytes(), random.Random(5)
    refused = 0
    for _ in range(300):
        changed = bytearray(sound)
        changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
        path.write_bytes(changed)
        try:
            loaded = jaxem.load(path)
        except ValueError:
            refused += 1
        else:
            same(jax.tree.map(np.asarray, found[1].best), loaded)  # what an archive says twice, or to nobody
    assert refused > 200


def test_every_result_class_of_the_library_is_known():
    public = [getattr(jaxem, name) for name in jaxem.__all__]
    classes = {one for one in public if isinstance(one, type) and issubclass(one, tuple)} - {
        jaxem.Check,
        jaxem.Progress,
        jaxem.Recoverability,
    }
    assert classes - {jaxem.OddFrames, jaxem.Remark, jaxem.Recoverability} == set(results.KINDS.values())


def test_results_print_in_a_few_lines(found):
    images, restarts = found
    claims = jaxem.assess_fit(images, restarts)
    report = jaxem.Report(restarts, claims)
    params = restarts.best.params
    for result in (report, restarts, restarts.best, restarts.runs, claims, claims.located, claims.test, params,
                   restarts.diagnostics, jaxem.annealing(), jaxem.e_step(images, params)):  # fmt: skip
        lines = repr(result).splitlines()
        assert len(lines) <= 5
        assert max(map(len, lines)) <= 100
        assert lines[0].startswith(f"{type(result).__name__}(")
        assert "None" not in repr(result)
    assert f"noise_scale={float(params.noise_scale):.7g}" in repr(params)
    height, width = params.template.shape
    assert f"Params(template=f32[{height},{width}], background=f32[" in repr(params)
    assert f"status={jaxem.Status(int(restarts.best.status)).name}" in repr(restarts.best)
    assert f"status=i32[{len(restarts.runs.elbo)}]" in repr(restarts.runs)
    assert "status=99," in repr(restarts.best._replace(status=np.int32(99)))
    gone = jnp.float32(1) + 1
    gone.delete()
    assert "elbo=f32[]" in repr(restarts.best._replace(elbo=gone))
    told = []
    jax.jit(lambda fit: told.append(repr(fit)) or fit.elbo)(restarts.best)
    assert "elbo=f32[]" in told[0]
    assert "status=i32[]" in told[0]
    assert repr(jaxem.Params(1, 2.5, [3], None)) == "Params(template=1, background=2.5, noise_scale=[3])"


def test_what_is_kept_beside_a_result(tmp_path):
    places = jaxem.Positions(np.array([[2, 3]], np.int32))
    about = {"names": ["left 2.png", "été.png"], "numbers": np.arange(2), "source": "frames/"}
    jaxem.save(tmp_path / "a.npz", places, about=about)
    np.testing.assert_array_equal(jaxem.load(tmp_path / "a.npz").corners, places.corners)
    found = results.read_about(tmp_path / "a.npz")
    assert {name: array.tolist() for name, array in found.items()} == {**about, "numbers": [0, 1]}
    jaxem.save(tmp_path / "b.npz", places)
    assert results.read_about(tmp_path / "b.npz") == {}
    with pytest.raises(TypeError, match=r"about\['x'\] must be numbers or text"):
        jaxem.save(tmp_path / "c.npz", places, about={"x": object()})
