"""One iteration on a GPU beside cuFFT's two transforms of the same images.

    python bench/gpu.py [--json FILE] [--images 20000]

20 000 images of 128 x 128 with a 32 x 32 template, then four times as many as a 4 GB transform holds. The bare
transforms are made in chunks below 4 GB, since larger batched ones abort the process.
"""

from __future__ import annotations

import common
import jax
import jax.numpy as jnp
from jax import lax

import jaxem
from jaxem.model import steps
from jaxem.model.expectation import expectation
from jaxem.model.frames import Frames
from jaxem.model.params import to_internal_units
from jaxem.model.workspace import make_workspace
from jaxem.solvers.options import cheapest_batch_size

SIZE, TEMPLATE = 128, 32
FOUR_GB = 4 * 2**30 // (SIZE * SIZE * 4)


def simulated(num_images):
    """Images made on the device, chunk by chunk."""
    key = jax.random.key(0)
    picture, face = jax.random.uniform(key, (SIZE, SIZE)), jnp.ones((TEMPLATE, TEMPLATE))
    positions = SIZE - TEMPLATE + 1
    truth = jaxem.Params(face, picture, jnp.float32(0.3), jnp.full((positions, positions), 1 / positions**2))
    chunk = min(num_images, 10_000)
    keys = jax.random.split(key, num_images // chunk)
    images = lax.map(lambda key: jaxem.simulate(key, truth, chunk)[0], keys)
    return images.reshape(-1, SIZE, SIZE), truth


def measure(num_images, rounds):
    """Milliseconds of an iteration and of the two transforms."""
    images, truth = jax.jit(simulated, static_argnums=0)(num_images)
    batch_size = cheapest_batch_size(len(images), images[0].size)
    workspace = jax.jit(make_workspace, static_argnums=1)(Frames(images), batch_size)
    start = to_internal_units(truth._replace(noise_scale=jnp.float32(0.5)), workspace.images)

    @jax.jit
    def iteration(workspace, params):
        statistics = expectation(workspace, params, hard=False).statistics
        return steps.update(workspace.images, workspace.totals, statistics, jnp.float32(0), params)

    chunk = next(size for size in range(min(len(images), FOUR_GB // 4), 0, -1) if len(images) % size == 0)

    @jax.jit
    def transforms(images):
        def both(batch):
            return jnp.fft.irfft2(jnp.fft.rfft2(batch), s=(SIZE, SIZE))[:, 0, 0]

        return lax.map(both, images.reshape(-1, chunk, SIZE, SIZE))

    runs = {
        "jaxem, one iteration": lambda: jax.block_until_ready(iteration(workspace, start)),
        "two FFTs": lambda: jax.block_until_ready(transforms(images)),
    }
    return {"images": len(images), "batch_size": batch_size, "ms": common.minimum(runs, rounds)}


def main():
    """Measure both sizes and print them."""
    options = common.parser(__doc__)
    options.add_argument("--images", type=int, nargs="+", default=[20_000, 4 * FOUR_GB // 10_000 * 10_000])
    arguments = options.parse_args()
    print(common.machine()["devices"])
    figures = []
    for num_images in arguments.images:
        found = measure(num_images, arguments.rounds)
        figures.append(found)
        iteration, floor = found["ms"].values()
        print(f"{found['images']} images, batches of {found['batch_size']}:", end=" ")
        print(f"{1e3 / iteration:.2f} iterations a second, {iteration / floor:.2f} times two FFTs", flush=True)
    common.write(arguments.json, {"points": figures})


if __name__ == "__main__":
    main()
