"""Archives that would fill memory are refused before they are unpacked."""

import numpy as np
import pytest

from jaxem.io import npz


def test_what_an_archive_claims_is_held_against_what_it_stores_and_what_is_free(tmp_path, monkeypatch):
    path = tmp_path / "zeros.npz"
    np.savez_compressed(path, x=np.zeros(10**7))
    assert npz.read_arrays(path)["x"].shape == (10**7,)
    with monkeypatch.context() as patch:
        patch.setattr(npz, "MOST_PACKED", 500)
        with pytest.raises(ValueError, match="claims more than it stores"):
            npz.read_arrays(path)
    with monkeypatch.context() as patch:
        patch.setattr(npz, "MOST_MEMBERS", 0)
        with pytest.raises(ValueError, match="list of arrays is not one"):
            npz.read_arrays(path)
    monkeypatch.setattr(npz, "available_memory", lambda: 10**7)
    with pytest.raises(ValueError, match="not enough memory"):
        npz.read_arrays(path)
