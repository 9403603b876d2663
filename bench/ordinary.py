"""How often `jaxem.odd_frames` finds something odd in ordinary stacks, where there is nothing.

    python bench/ordinary.py 100               # stacks of each kind
    python bench/ordinary.py 100 rare video    # of some kinds

Each stack is drawn with its own size, template and contrast (squared distance over the noise's variance, 20 to 1000
where nothing else is said), and looked at without and with the template's size known.
"""

import sys
from collections import Counter

import numpy as np

import jaxem

NOISE = 6.0
TEXTURES = ("checkered", "flat", "normal", "spot", "dots")


def texture_of(rng, kind, h, w):
    if kind == "checkered":
        return rng.choice([-1.0, 1.0], (h, w))
    if kind == "normal":
        return rng.normal(size=(h, w))
    picture = np.full((h, w), float(kind == "flat"))
    if kind == "spot":
        picture[h // 2, w // 2] = 1
    elif kind == "dots":
        picture[::2, ::2] = 1
    return picture


def background_of(rng, kind, level, H, W):
    rows, columns = np.mgrid[:H, :W]
    return {
        "smooth": level + 10 * np.sin(rows / 5) + 8 * np.cos(columns / 7),
        "white": level + 50 * rng.normal(size=(H, W)),
        "blocks": level + 80.0 * ((rows // 4 + columns // 5) % 2) + 5 * rng.normal(size=(H, W)),
        "flat": np.full((H, W), float(level)),
    }[kind]


def log_uniform(rng, low, high):
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def stack(
    rng, *, shape=None, template=None, contrast=(20, 1000), textures=TEXTURES, background="smooth", level=100.0,
    noise=NOISE, share=1.0, region=None,
):  # fmt: skip
    """Images without noise, noise to add, and the template's size."""
    K, H, W = shape or (int(rng.integers(30, 300)), *rng.integers(20, 60, 2).tolist())
    h, w = template or (int(rng.integers(2, max(3, H // 2))), int(rng.integers(2, max(3, W // 2))))
    picture = texture_of(rng, str(rng.choice(textures)), h, w)
    picture *= noise * np.sqrt(log_uniform(rng, *contrast) / max(np.square(picture).sum(), 1e-9))
    images = np.repeat(background_of(rng, background, level, H, W)[None], K, 0)
    last = np.array([H - h + 1, W - w + 1])
    first = last // 3 if region else np.zeros(2, int)
    last = np.maximum(first + 1, np.minimum(last, first + region)) if region else last
    for image in images:
        if rng.random() < share:
            i, j = rng.integers(first, last)
            image[i : i + h, j : j + w] = level + picture
    return images, noise * rng.normal(size=images.shape), (h, w)


def white(rng):
    images, noise, size = stack(rng)
    return images + noise, size


def strong(rng):
    images, noise, size = stack(rng, contrast=(1e3, 1e6))
    return images + noise, size


def half_of_the_frame(rng):
    H, W = rng.integers(20, 60, 2).tolist()
    images, noise, size = stack(
        rng, shape=(int(rng.integers(30, 300)), H, W), template=(int(0.7 * H), int(0.7 * W)), contrast=(50, 1e5),
        textures=TEXTURES[:3],
    )  # fmt: skip
    return images + noise, size


def in_one_region(rng):
    images, noise, size = stack(rng, contrast=(20, 1e5), region=int(rng.integers(2, 7)))
    return images + noise, size


def eight_bits(rng):
    images, noise, size = stack(rng, noise=log_uniform(rng, 0.3, 20))
    return (images + noise).round().clip(0, 255).astype(np.uint8), size


def photons(rng):
    level = log_uniform(rng, 0.05, 1000)
    images, _, size = stack(rng, level=level, background="flat", noise=level**0.5)
    return rng.poisson(images.clip(0) * (1 + 0.5 * np.sin(np.arange(images.shape[2]) / 7))).astype(np.uint16), size


def textured(rng):
    images, noise, size = stack(rng, background=str(rng.choice(["white", "blocks"])), contrast=(20, 1e5))
    return images + noise, size


def five_frames(rng):
    shape = (5, *rng.integers(20, 60, 2).tolist())
    images, noise, size = stack(
        rng, shape=shape, contrast=(20, 1e5), textures=TEXTURES[:4], background=str(rng.choice(["smooth", "white"]))
    )
    return images + noise, size


def tiny_frames(rng):
    K, H, W = int(rng.integers(5, 300)), int(rng.integers(3, 9)), int(rng.integers(3, 9))
    template = int(rng.integers(1, H)), int(rng.integers(1, W))
    images, noise, size = stack(rng, shape=(K, H, W), template=template, contrast=(20, 1e4))
    return images + noise, size


def signals(rng):
    W = int(rng.integers(30, 300))
    images, noise, size = stack(
        rng, shape=(int(rng.integers(20, 300)), 1, W), template=(1, int(rng.integers(2, W // 2))), contrast=(20, 1e4),
        textures=TEXTURES[:4],
    )  # fmt: skip
    return images + noise, size


def bright_2_x_2(rng):
    share = float(rng.choice([1.0, 0.3, 0.03]))
    images, noise, size = stack(rng, template=(2, 2), textures=TEXTURES[:2], contrast=(100, 1e7), share=share)
    return images + noise, size


def in_3_percent_of_the_frames(rng):
    images, noise, size = stack(rng, share=0.03, contrast=(100, 1e6), textures=TEXTURES[:3])
    return images + noise, size


def one_bright_pixel(rng):
    share = float(rng.choice([1.0, 0.3, 0.1]))
    images, noise, size = stack(rng, template=(5, 5), textures=["spot"], share=share, contrast=(100, 1e6))
    return images + noise, size


def slight_flicker(rng):
    images, noise, size = stack(rng)
    return images + noise + 0.3 * NOISE * rng.normal(size=(len(images), 1, 1)), size


def blurred_noise(rng):
    images, noise, size = stack(rng)
    noise = sum(np.roll(noise, shift, axis) for shift, axis in ((0, 0), (1, 1), (-1, 1), (1, 2), (-1, 2))) / 5**0.5
    return images + noise, size


def noise_by_pixel(rng):
    images, noise, size = stack(rng)
    return images + noise * np.linspace(0.3, 3, images.shape[2]), size


def video(rng):
    images, noise, (h, w) = stack(rng, share=0.0)
    face = images[0, :h, :w] + 40 * rng.normal(size=(h, w))
    place = np.zeros(2, int)
    for image in images:
        place = np.clip(place + rng.integers(-1, 2, 2), 0, np.subtract(image.shape, (h, w)))
        image[place[0] : place[0] + h, place[1] : place[1] + w] = face
    return images + noise / 4, (h, w)


def heavy_tails(rng):
    images, _, size = stack(rng)
    return images + NOISE * rng.standard_t(6, size=images.shape), size


KINDS = [
    white, strong, half_of_the_frame, in_one_region, eight_bits, photons, textured, five_frames, tiny_frames, signals,
    bright_2_x_2, in_3_percent_of_the_frames, one_bright_pixel, slight_flicker, blurred_noise, noise_by_pixel, video,
    heavy_tails,
]  # fmt: skip


def main():
    count, chosen = int(sys.argv[1]), sys.argv[2:]
    print("| stacks | size unknown | size known | said |\n|---|---|---|---|")
    for kind in KINDS:
        if chosen and kind.__name__ not in chosen:
            continue
        alarms, said = [0, 0], Counter()
        for seed in range(count):
            images, size = kind(np.random.default_rng([seed, len(kind.__name__)]))
            images = images if images.dtype.kind == "u" else images.astype(np.float32)
            for known in (0, 1):
                remarks = jaxem.odd_frames(images, template_shape=size if known else None).remarks
                alarms[known] += bool(remarks)
                said.update(remark.code for remark in remarks)
        name = kind.__name__.replace("_", " ")
        print(f"| {name} | {alarms[0]} of {count} | {alarms[1]} | {', '.join(said)} |", flush=True)


if __name__ == "__main__":
    main()
