"""A fit that one of several processes leaves in the middle: ``python process_that_dies.py PORT COUNT NUMBER``."""

import sys
import time

import numpy as np
from sharded_results import planted

import jaxem
from jaxem.runtime.processes import connect


class Slow:
    """Frames that take long to read, so that there is time to die."""

    def __init__(self, images):
        self.images, self.shape, self.dtype = images, images.shape, images.dtype

    def read(self, start, stop):
        time.sleep(0.5)
        return self.images[start:stop]


def main(port, count, number):
    connect(f"localhost:{port}", count, number)
    images, start = planted()
    source = Slow(images.astype(np.float32))
    jaxem.stream.fit(
        source, start, max_iterations=10**4, tolerance=-np.inf, callback=lambda _: print("step", flush=True)
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
