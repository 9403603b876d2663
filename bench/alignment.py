"""Multi-reference alignment: how well a signal is found from noisy copies that are shifted cyclically at random.

    python bench/alignment.py [--json FILE] [--figure docs/alignment.png]

The experiment of Bendory, Boumal, Ma, Zhao and Singer, "Bispectrum inversion with application to multireference
alignment" (IEEE Transactions on Signal Processing 66, 2018), in jaxem: images of one row, a template as wide as they
are, and windows that go round the edge. The shifts' distribution is held, and so is the background, which is never
seen. EM starts from a few random signals, and the run with the highest objective counts. Prints the root mean square,
over several signals, of the relative error after the best shift, and slopes on logarithmic axes: in theory -1/2 against
the number of copies; against the noise 1 where it is low, as if all shifts were known, and 3 where it is high.
"""

from __future__ import annotations

import common
import jax
import jax.numpy as jnp
import numpy as np

import jaxem

LENGTH, SIGNALS, STARTS = 21, 5, 3
COUNTS = {1.0: (100, 300, 1000, 3000, 10_000, 30_000), 3.0: (3000, 10_000, 30_000, 100_000)}  # by noise
NOISES, COPIES = (0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0), 50_000
SLOPES = {"low": (0.1, 0.5), "high": (3.0, 5.0)}  # between which noises


def shifted_copies(rng, signal, count, noise):
    """Images (K, 1, L)."""
    shifts = rng.integers(0, LENGTH, (count, 1))
    copies = signal[(np.arange(LENGTH) - shifts) % LENGTH]
    return (copies + noise * rng.normal(size=copies.shape)).astype(np.float32)[:, None]


def starts(rng, images):
    """Random signals, and all the spread of the images as noise."""
    signals = images.mean() + rng.normal(size=(STARTS, 1, LENGTH))
    flat, prior = np.zeros_like(signals), np.full_like(signals, 1 / LENGTH)
    leaves = (signals, flat, np.full(STARTS, images.std()), prior)
    return jaxem.Params(*(jnp.asarray(leaf, jnp.float32) for leaf in leaves))


@jax.jit
def fits(images, params):
    """One for each start."""
    options = {"fixed": ("prior", "background"), "accelerate": True, "max_iterations": 1000, "tolerance": 1e-8}
    return jax.vmap(lambda start: jaxem.fit(images, start, **options))(params)


def relative_error(found, signal):
    """After the best cyclic shift."""
    return min(np.linalg.norm(np.roll(found, shift) - signal) for shift in range(LENGTH)) / np.linalg.norm(signal)


def measure(count, noise):
    """Root mean square over the signals, of unit mean square each."""
    errors = []
    for seed in range(SIGNALS):
        rng = np.random.default_rng(seed)
        signal = rng.normal(size=LENGTH)
        signal /= np.sqrt(np.mean(signal**2))
        images = shifted_copies(rng, signal, count, noise)
        found = fits(images, starts(rng, images))
        best = int(np.argmax(found.elbo))
        errors.append(relative_error(np.asarray(found.params.template[best, 0]), signal))
    return float(np.sqrt(np.mean(np.square(errors))))


def slope(points, between=(0, np.inf)):
    """Of a line through the logarithms of the points between two places."""
    places, errors = (
        np.log([point[axis] for point in points if between[0] <= point[0] <= between[1]]) for axis in (0, 1)
    )
    return float(np.polyfit(places, errors, 1)[0])


def draw(path, by_count, by_noise):
    """Errors against the number of copies and against the noise."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
    known = {"color": "0.55", "linestyle": "--", "linewidth": 1, "zorder": 1}
    for number, (noise, points) in enumerate(by_count.items()):
        counts, errors = np.transpose(points)
        left.loglog(counts, errors, "o-", color=f"C{number}", markersize=4, label=f"noise {noise:g}")
        left.loglog(counts, noise / np.sqrt(counts), **known, label="shifts known" if noise == max(by_count) else None)
    left.set(xlabel="copies", ylabel="relative error")
    noises, errors = np.transpose(by_noise)
    right.loglog(noises, errors, "o-", color="C2", markersize=4, label=f"{COPIES:,} copies".replace(",", " "))
    right.loglog(noises, noises / np.sqrt(COPIES), **known, label="shifts known")
    steep = noises[noises >= 1.5]
    right.loglog(steep, 1.5 * errors[-1] * (steep / steep[-1]) ** 3, ":", color="0.3", linewidth=1, label="slope 3")
    right.set(xlabel="noise, the signal being of unit size", ylabel="relative error")
    right.set_xticks([0.1, 0.3, 1, 3], labels=["0.1", "0.3", "1", "3"])
    right.xaxis.set_minor_formatter("")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)


def main():
    """Both sweeps, their slopes and the figure."""
    options = common.parser(__doc__)
    options.add_argument("--figure", help="draw it here as well; needs matplotlib")
    arguments = options.parse_args()
    by_count, by_noise = {}, []
    for noise, counts in COUNTS.items():
        by_count[noise] = points = []
        for count in counts:
            points.append((count, measure(count, noise)))
            print(f"{count:6} copies, noise {noise:3.1f}: error {points[-1][1]:.4f}", end=", ")
            print(f"with known shifts {noise / count**0.5:.4f}", flush=True)
    for noise in NOISES:
        by_noise.append((noise, measure(COPIES, noise)))
        print(f"{COPIES:6} copies, noise {noise:3.1f}: error {by_noise[-1][1]:.5f}", end=", ")
        print(f"with known shifts {noise / COPIES**0.5:.5f}", flush=True)
    slopes = {f"copies, noise {noise:g}": slope(points) for noise, points in by_count.items()}
    slopes |= {f"{name} noise": slope(by_noise, between) for name, between in SLOPES.items()}
    for name, value in slopes.items():
        print(f"slope against {name}: {value:.2f}")
    if arguments.figure:
        draw(arguments.figure, by_count, by_noise)
    common.write(arguments.json, {"by_count": by_count, "by_noise": by_noise, "slopes": slopes})


if __name__ == "__main__":
    main()
