"""The pictures of docs/pictures.md: five kinds of data planted with fixed seeds, fitted, assessed and drawn.

    python bench/pictures.py [--out FOLDER] [NAME ...]

Takes two minutes on two cores. What each kind is like is said where it is planted.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import jax
import mrcfile
import numpy as np
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from skimage import color, data, transform

import jaxem
from jaxem.io import read_frames

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
DOTS_PER_INCH, MOST_BYTES = 75, 150_000


def smooth(rng, shape, width):
    """Smooth noise from 0 to 1."""
    rows, columns = np.meshgrid(*(np.fft.fftfreq(size) for size in shape), indexing="ij")
    low = np.exp(-2 * (np.pi * width) ** 2 * (rows**2 + columns**2))
    found = np.fft.ifft2(np.fft.fft2(rng.normal(size=shape)) * low).real
    return (found - found.min()) / np.ptp(found)


def pasted(rng, template, background, corners):
    """Each frame without its noise."""
    frames = np.repeat(background[None].astype(float), len(corners), axis=0)
    height, width = template.shape[:2]
    for frame, (row, column) in zip(frames, corners, strict=True):
        frame[row : row + height, column : column + width] = template
    return frames


def folder(rng, place):
    """Photographs of 8 bits in a folder of PNG: a cat's eye over coins, and pixels that never answer."""
    template = 255 * transform.resize(color.rgb2gray(data.chelsea())[25:235, 100:330], (22, 24), anti_aliasing=True)
    background = 255 * transform.resize(data.coins()[:200, :300] / 255, (56, 84), anti_aliasing=True)
    corners = np.clip(np.rint(rng.normal((17, 30), (6, 12), size=(150, 2))), 0, (34, 60)).astype(int)
    frames = pasted(rng, template, background, corners) + rng.normal(scale=50, size=(150, 56, 84))
    dead = np.ones((56, 84), np.uint8)
    dead[8:11, 60:76] = 0
    for number, frame in enumerate(np.clip(np.rint(frames), 0, 255).astype(np.uint8)):
        Image.fromarray(frame * dead).save(place / f"{number:03}.png")
    weights = dead.astype(np.float32)
    images = read_frames(place).astype(np.float32)
    return images, {"template_shape": (22, 24), "weights": weights}


def video(rng, place):
    """Frames in colour, as of a video: a round badge that comes and goes over a photograph."""
    background = 255 * transform.resize(data.coffee(), (48, 72), anti_aliasing=True)
    template = 255 * transform.resize(data.astronaut()[0:190, 130:320], (20, 20), anti_aliasing=True)
    round_one = np.hypot(*np.mgrid[-9.5:10, -9.5:10]) < 10
    frames = np.repeat(background[None], 160, axis=0)
    for number, frame in enumerate(frames):
        if number % 4:
            row, column = int(14 + 12 * np.sin(number / 11)), int(26 + 24 * np.cos(number / 17))
            frame[row : row + 20, column : column + 20][round_one] = template[round_one]
    noisy = frames + rng.normal(scale=55, size=frames.shape)
    np.save(place / "video.npy", np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
    images = read_frames(place / "video.npy", colour=True).astype(np.float32)
    return images, {"template_shape": (20, 20), "support": "disc", "absent": True}


def dim(rng, place):
    """Counts of photons in TIFF of 16 bits: a bright ring that drifts over an uneven field."""
    distance = np.hypot(*np.mgrid[-7:8, -7:8])
    background = 20 + 15 * smooth(rng, (64, 64), 8)
    ring = 28 + 14 * np.exp(-(((distance - 5) / 1.5) ** 2))
    path = np.cumsum(rng.normal(scale=1.5, size=(200, 2)), axis=0)
    corners = np.clip(np.rint(25 + path), 0, 49).astype(int)
    counts = rng.poisson(pasted(rng, ring, background, corners)) + np.rint(rng.normal(100, 3, size=(200, 64, 64)))
    tifffile.imwrite(place / "dim.tif", counts.astype(np.uint16))
    return read_frames(place / "dim.tif").astype(np.float32), {"template_shape": (15, 15)}


def particles(rng, place):
    """Particles in MRC: three views of one thing under quarter turns, in noise twice as strong as they are."""
    views = np.stack([smooth(rng, (16, 16), 1.6) * np.hanning(18)[1:-1, None] * np.hanning(18)[1:-1] for _ in range(3)])
    frames = np.zeros((600, 26, 26))
    for frame in frames:
        row, column = rng.integers(0, 11, 2)
        frame[row : row + 16, column : column + 16] = np.rot90(views[rng.integers(3)], rng.integers(4))
    noisy = frames / views.std() + rng.normal(scale=2.0, size=frames.shape)
    with mrcfile.new(place / "particles.mrcs") as file:
        file.set_data(noisy.astype(np.float32))
    images = read_frames(place / "particles.mrcs")
    turns = ("identity", "rot90", "rot180", "rot270")
    return images, {"template_shape": (16, 16), "num_templates": 3, "transforms": turns}


def signals(rng, place):
    """Signals of one row: a pulse that comes too early or too late, on a baseline that nobody has measured."""
    time = np.arange(21)
    pulse = 3 * np.exp(-(((time - 6) / 2.0) ** 2)) - 1.6 * np.exp(-(((time - 13) / 3.0) ** 2))
    baseline = np.sin(np.arange(120) / 13) + 0.4 * np.sin(np.arange(120) / 4)
    frames = np.repeat(baseline[None], 120, axis=0)
    for frame in frames:
        begin = int(np.clip(rng.normal(50, 9), 0, 99))
        frame[begin : begin + 21] = pulse
    np.save(place / "signals.npy", (frames + rng.normal(scale=0.8, size=frames.shape))[:, None])
    return np.load(place / "signals.npy").astype(np.float32), {"template_shape": (1, 21)}


def with_fewer_colours(path):
    """Write a picture again in 256 colours, which is enough where it is grey."""
    with Image.open(path) as picture:
        said, few = PngInfo(), picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        said.add_text("Description", picture.info["Description"])
    few.save(path, optimize=True, pnginfo=said)


KINDS = {"folder": folder, "video": video, "dim": dim, "particles": particles, "signals": signals}


def main():
    """A picture a kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(KINDS))
    parser.add_argument("--out", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for number, (name, plant) in enumerate(KINDS.items()):
        if arguments.names and name not in arguments.names:
            continue
        with tempfile.TemporaryDirectory() as place:
            images, options = plant(np.random.default_rng(number), Path(place))
        found = jaxem.fit_restarts_parallel(jax.random.key(0), images, **options)
        weights = options.get("weights")
        report = jaxem.Report(found, jax.device_get(jaxem.assess_fit(images, found, weights=weights)))
        shown = images if weights is None else np.where(weights > 0, images, np.nan)
        path = arguments.out / f"{name}.png"
        jaxem.plots.write_figure(jaxem.plots.summary(report, shown), path, dots_per_inch=DOTS_PER_INCH)
        if path.stat().st_size >= MOST_BYTES:
            with_fewer_colours(path)
        print(name, path.stat().st_size, jaxem.Status(int(found.best.status)).name, *report.warnings(), sep="\n  ")


if __name__ == "__main__":
    main()
