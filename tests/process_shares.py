"""What processes tell each other: ``python process_shares.py PORT COUNT NUMBER OUT.json HOW``.

All fit the same frames and note what they hold; or they wait for each other until one is killed, and are watched.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from jaxem.runtime.errors import ArgumentValueError, ProcessesError
from jaxem.runtime.supervision import last_word, split_off


def main(port, count, number, path, how):
    if how != "shares":
        split_off(5)
    from jaxem.runtime import processes

    told = count + 1 if how == "miscounted" and number == 1 else count
    try:
        processes.connect(f"localhost:{port}", told, number, timeout=2 if how == "alone" else 0)
        path.write_text("met")
        while how != "shares":
            time.sleep(0.2)
            with processes.together():
                if how == "broken" and number == count - 1:
                    raise ArgumentValueError("path", "does not exist.")
            processes.agree(0)
        path.write_text(json.dumps(held(processes, number)))
    except (ProcessesError, ArgumentValueError) as error:
        last_word(f"jaxem: {error}", 5 if isinstance(error, ProcessesError) else 2)
        os._exit(1)


def held(processes, number):
    import jax
    from sharded_results import TEMPLATE, planted

    import jaxem

    found = {"sent": np.arange(5, dtype=np.float64) * np.pi + number, "odd": np.array([number, 2**62 + number])}
    first = processes.from_first(found | {"jax": jax.numpy.float32(number)})
    assert isinstance(first["jax"], jax.Array)
    data = bytes(range(256)) * (3 - number)
    checkpointer = jaxem.Checkpointer(fingerprint={"work": "this"})
    if processes.is_first():
        checkpointer.save_result("one", {"a": np.arange(4), "b": np.ones((2, 3))})
        checkpointer.save_state("two", np.float64(0.1))
    checkpointer.take_up_first()
    images = planted()[0].astype(np.float32)

    def fitted():
        options = {"sample": 30, "search": None, "num_restarts": 2, "max_iterations": 5, "batch_size": 4}
        return jaxem.stream.fit_restarts(jax.random.key(0), images, TEMPLATE, **options)

    fit = fitted()
    notes = {
        "first": {name: np.asarray(array).tolist() for name, array in first.items()},
        "bytes": processes.bytes_from_first(data).hex(),
        "entries": {name: [ended, processes.fingerprint(tree)] for name, (ended, tree) in checkpointer.entries.items()},
        "fit": processes.fingerprint(fit),
        "share": len(processes.own_share(10)),
    }
    processes.part()
    return notes | {
        "share of one": len(processes.own_share(10)),
        "is first": processes.is_first(),
        "elbo": float(fit.best.elbo),
        "elbo of one": float(fitted().best.elbo),
    }


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), Path(sys.argv[4]), sys.argv[5])
