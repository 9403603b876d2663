"""README says nothing that does not run."""

import re
from pathlib import Path

import numpy as np

README = Path(__file__).parent.parent / "README.md"


def test_the_library_example_runs_and_finds_the_template(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    found = {}
    exec(code, found)
    assert "CONVERGED" in capsys.readouterr().out
    np.testing.assert_allclose(found["found"].best.params.template, found["template"], atol=0.1)


def test_quick_start_is_two_blocks_of_one_line():
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    assert [len(block.strip().splitlines()) for block in blocks] == [1, 1]
    assert blocks[0].strip().endswith("jaxem demo")
    assert blocks[1].strip().endswith("pytest")
