"""Recordings with something odd in them: what is said, and whether a fit is right, without and with the options for it.

    python bench/odd.py                  # all of them
    python bench/odd.py rays lines       # some

Each is of 300 frames of 40 x 48 with a checkered template of 9 x 7, contrast 10 about a smooth background, noise 6.
"Right" is the share of corners of the frames that are kept that are exact up to one common shift.
"""

import contextlib
import csv
import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from jaxem.cli import app

K, H, W, h, w, NOISE = 300, 40, 48, 9, 7, 6.0


def planted(rng, contrast=10.0):
    rows, columns = np.arange(H)[:, None], np.arange(W)[None]
    background = 100 + 10 * np.sin(rows / 5) + 8 * np.cos(columns / 7)
    template = 100 + contrast * rng.choice([-1, 1], (h, w))
    corners = np.stack([rng.integers(0, H - h + 1, K), rng.integers(0, W - w + 1, K)], 1)
    images = np.repeat(background[None], K, 0)
    for image, (i, j) in zip(images, corners, strict=True):
        image[i : i + h, j : j + w] = template
    return images + NOISE * rng.normal(size=images.shape), corners


def nothing(x, rng):
    return x


def dark_start(x, rng):
    x[:15] = 3 + rng.normal(size=x[:15].shape)
    return x


def rays(x, rng):
    for k in range(0, K, 4):
        x[k, rng.integers(H), rng.integers(W)] = rng.integers(1000, 20000)
    return x


def lines(x, rng):
    for k in range(0, K, 3):
        x[k, rng.integers(H)] = 0
    return x


def one_saturated(x, rng):
    x[100, 30, 5] = 65535
    return x.clip(0, 65535).astype(np.uint16)


def weak_rays(x, rng):
    for k in range(0, K, 2):
        x[k, rng.integers(H), rng.integers(W)] += NOISE * rng.uniform(15, 40)
    return x


def salt_and_pepper(x, rng):
    hit = rng.random(x.shape) < 0.01
    x[hit] = 255 * rng.integers(0, 2, hit.sum())
    return x.clip(0, 255).astype(np.uint8)


def second_half_brighter(x, rng):
    x[K // 2 :] += 10 * NOISE
    return x


def decaying(x, rng):
    return x * np.exp(-np.arange(K) / 400)[:, None, None]


def flicker_with_the_mains(x, rng):
    return x + 4 * NOISE * np.sin(2 * np.pi * np.arange(K) / 12.5)[:, None, None]


def dead_row(x, rng):
    x[:, 17] = 0
    return x


def dead_pixels(x, rng):
    for _ in range(12):
        x[:, rng.integers(H), rng.integers(W)] = rng.choice([0, 4000])
    return x


def hot_pixels(x, rng):
    for _ in range(12):
        x[:, rng.integers(H), rng.integers(W)] += rng.uniform(1000, 3000) + 20 * rng.normal(size=K)
    return x


def flickering_pixels(x, rng):
    for _ in range(12):
        x[:, rng.integers(H), rng.integers(W)] += 600 * rng.exponential(size=K) * (rng.random(K) < 0.3)
    return x


def upside_down(x, rng):
    x[[40, 41, 200]] = x[[40, 41, 200], ::-1]
    return x


def other_recording(x, rng):
    other = 100 + 20 * np.sin(np.arange(W) / 3) * np.cos(np.arange(H)[:, None] / 4)
    x[[7, 150]] = other + NOISE * rng.normal(size=(2, H, W))
    return x


def burst_of_noise(x, rng):
    x[100:103] += 60 * rng.normal(size=(3, H, W))
    return x


def wrapped(x, rng):
    hit = rng.random(x.shape) < 2e-4
    return np.where(hit, x + 65536 - 150, x).clip(0, 65535).astype(np.uint16)


def vignette_flash(x, rng):
    rows, columns = (np.arange(H)[:, None] - H / 2) / H, (np.arange(W)[None] - W / 2) / W
    x[[30, 90, 222]] += 400 * np.exp(-8 * (rows**2 + columns**2))
    return x


def stuck_columns(x, rng):
    for k in rng.choice(K, 60, replace=False):
        x[k, :, rng.integers(W)] = 130 + rng.normal(size=H)
    return x


def camera_jump(x, rng):
    x[[50, 51, 52, 53]] = np.roll(x[[50, 51, 52, 53]], (3, -5), (1, 2))
    return x


def torn(x, rng):
    x[[20, 120, 220], H // 2 :] = 0
    return x


def copies(x, rng):
    x[101:110] = x[100]
    return x


def letterbox(x, rng):
    x[:, :5] = x[:, -5:] = 0
    return x


def half_missing_rows(x, rng):
    for k in range(0, K, 3):
        x[k, rng.integers(H)] = np.nan
    return x


CASES = [
    nothing, dark_start, rays, lines, one_saturated, weak_rays, salt_and_pepper, second_half_brighter, decaying,
    flicker_with_the_mains, dead_row, dead_pixels, hot_pixels, flickering_pixels, upside_down, other_recording,
    burst_of_noise, wrapped, vignette_flash, stuck_columns, camera_jump, torn, copies, letterbox, half_missing_rows,
]  # fmt: skip


def fit(path, out, *options):
    """Remarks by code, noise, corners, and which frames were left out."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(io.StringIO()):
        app.run(
            ["fit", str(path), "--template-shape", str(h), str(w), "--out", str(out), "--overwrite", "--json", *options]
        )
    events = [json.loads(line) for line in text.getvalue().splitlines()]
    codes = [remark["code"] for event in events for remark in event.get("remarks", ())]
    noise = next(event["noise_scale"] for event in events if event["event"] == "result")
    with open(out / "positions.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    found = np.array([[int(row["row"]), int(row["column"])] for row in rows])
    return codes, noise, found, np.array([row["excluded"] == "1" for row in rows])


def share_right(found, corners, kept):
    _, counts = np.unique((found - corners)[kept], axis=0, return_counts=True)
    return counts.max() / kept.sum()


def main():
    chosen = [case for case in CASES if case.__name__ in sys.argv[1:]] or CASES
    print(
        "| recording | said | noise, right without | left out | noise, right with the options |\n|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder, "stack.npy"), Path(folder, "out")
        for case in chosen:
            rng = np.random.default_rng(0)
            images, corners = planted(rng)
            images = case(images, rng)
            np.save(path, images if images.dtype.kind == "u" else images.astype(np.float32))
            more = ["--nan-missing"] if np.isnan(images.sum()) else []
            codes, noise, found, _ = fit(path, out, *more)
            without = f"{noise:.4g}, {share_right(found, corners, np.ones(K, bool)):.0%}"
            again, noise, found, excluded = fit(path, out, "--exclude-odd", "--mask-hot", *more)
            with_options = f"{noise:.4g}, {share_right(found, corners, ~excluded):.1%}"
            second = set(again) - set(codes)
            said = ", ".join(dict.fromkeys(codes)) + (f"; then {', '.join(sorted(second))}" if second else "")
            name = case.__name__.replace("_", " ")
            print(f"| {name} | {said} | {without} | {excluded.sum()} frames | {with_options} |", flush=True)


if __name__ == "__main__":
    main()
