import os
import signal

os.environ.setdefault("JAX_ENABLE_X64", "1")  # both precisions in one run; set 0 to test as most users run
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # Shells let jobs in the background ignore it, and the commands under test would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """Where commands keep compiled programs: nothing of the user's is touched."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Compiled programs of one file serve no other, and all together need more mappings than Linux gives a process."""
    yield
    jax.clear_caches()


TOLERANCE = {np.dtype("float32"): 2e-4, np.dtype("float64"): 1e-9}


def close(actual, expected, dtype):
    """The right dtype, and the right numbers as far as it carries."""
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """A precision; "widest" is the one that JAX has as its default."""
    if request.param == "float64" and not jax.config.jax_enable_x64:
        pytest.skip("float64 is switched off")
    return np.dtype(jax.dtypes.canonicalize_dtype("float64") if request.param == "widest" else request.param)


@pytest.fixture
def compilations():
    """A list that grows by one entry at each compilation."""
    seen = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.clear_event_listeners()
