"""Time to a solution: the classic setting from the shell, cold and with compiled programs kept.

    python bench/solution.py [--json FILE]

1000 pictures of 50 x 100 with a 30 x 20 template, ten restarts of fifty iterations, as ``jaxem fit`` runs them: with
reading, compiling, searching, drawing and writing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common
import numpy as np


def main():
    """Run the command twice with an empty cache folder to begin with."""
    arguments = common.parser(__doc__).parse_args()
    images, _ = common.problem((1000, 50, 100), (30, 20))
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "images.npy", images)
        command = [sys.executable, "-m", "jaxem", "fit", f"{folder}/images.npy", "--template-shape", "30", "20"]
        command += ["--out", f"{folder}/found", "--tolerance", "0", "--overwrite"]
        seconds = {}
        for name in ("cold", "programs kept"):
            before = time.perf_counter()
            environment = {**os.environ, "XDG_CACHE_HOME": f"{folder}/cache"}
            ended = subprocess.run(command, env=environment, capture_output=True, text=True)
            if ended.returncode not in (0, 3):
                raise SystemExit(ended.stderr)
            seconds[name] = time.perf_counter() - before
            print(f"{name:14} {seconds[name]:7.1f} s", flush=True)
    common.write(arguments.json, {"seconds": seconds})


if __name__ == "__main__":
    main()
