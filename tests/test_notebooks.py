"""The notebooks run from a fresh kernel and show what their texts say, and their stored outputs are whole."""

from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))

# Run as a last cell.
CLAIMS = {
    "frames": """
plain, absent, weighted, supported, known, coloured = results.values()
assert plain["template"] > 1.3 * absent["template"] > 2 * weighted["template"] > 2.4 * supported["template"]
assert plain["places"] < absent["places"] < weighted["places"] < supported["places"]
assert absent["wrong"] > 0.05 and plain["at one place"] > 0.5
for figures in (weighted, supported, known, coloured):
    assert figures["auc"] > 0.995 and figures["wrong"] < 0.02
for figures in (supported, known, coloured):
    assert figures["template"] < 0.015 and figures["places"] > 0.93
assert known["background"] < 1e-6 and errors[1] < 0.1 * errors[0]
""",
    "online": """
for of_problem in ratios.values():
    assert of_problem["online"] < 1.1 < 1.3 < of_problem["(n + 2)^-0.6"] < 0.5 * of_problem["start"]
""",
}


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["explore", "frames", "online", "paper"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_fresh_kernel_runs_it(path, monkeypatch, tmp_path):
    monkeypatch.setenv("JAXEM_SEEDS", "2")
    monkeypatch.setenv("JAX_ENABLE_X64", "0")
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # they compute for longer than they compile
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(CLAIMS.get(path.stem, "")))
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", resources=resources).execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_stored_outputs_are_of_one_whole_run(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type in ("error", "stream")]
    assert sum("image/png" in output.data for output in outputs) >= 4
