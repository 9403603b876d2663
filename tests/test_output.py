"""Results out: whole or not at all."""

import pytest

from jaxem.output import OutputError, output_folder


def test_results_appear_whole_or_not_at_all(tmp_path):
    target = tmp_path / "new" / "deep"
    with output_folder(target) as folder:
        (folder / "a.txt").write_text("first")
        assert not (target / "a.txt").exists()
    assert [file.name for file in target.iterdir()] == ["a.txt"]

    def fail(folder, error):
        with output_folder(folder) as inside:
            (inside / "a.txt").write_text("second")
            raise error

    with pytest.raises(KeyboardInterrupt):
        fail(target, KeyboardInterrupt())
    assert [(file.name, file.read_text()) for file in target.iterdir()] == [("a.txt", "first")]
    (target / "b.txt").mkdir()

    def write_both():
        with output_folder(target) as folder:
            (folder / "a.txt").write_text("third")
            (folder / "b.txt").write_text("third")

    with pytest.raises(OutputError, match=r"b\.txt there is a folder"):
        write_both()
    assert (target / "a.txt").read_text() == "first"
    with pytest.raises(OutputError, match="No space left"):
        fail(tmp_path / "other" / "deep", OSError(28, "No space left on device"))
    assert not (tmp_path / "other").exists()


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match=f"cannot write to {folder}"), output_folder(folder):
            pytest.fail("the block must not be entered")
