"""A fit that several processes do not end: ``python process_that_dies.py PORT COUNT NUMBER HOW``.

It goes on until one is killed; or the source of the last one fails, or that one starts from something else.
"""

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


class Broken(Slow):
    """Frames that can be read twice."""

    num_read = 0

    def read(self, start, stop):
        self.num_read += 1
        if self.num_read > 2:
            raise OSError("the disk is gone")
        return super().read(start, stop)


def main(port, count, number, how):
    connect(f"localhost:{port}", count, number)
    images, start = planted()
    is_last = number == count - 1
    if is_last and how == "elsewhere":
        start = start._replace(template=start.template + 1)
    source = Broken if is_last and how == "broken" else Slow
    endless = {"max_iterations": 10**4, "tolerance": -np.inf, "callback": lambda _: print("step", flush=True)}
    jaxem.stream.fit(source(images.astype(np.float32)), start, **endless)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), sys.argv[4])
