"""The checksum of a file, and files that are never half-written."""

import pytest

from affect.files import replace_file, sha256_of


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_is_replaced_when_it_is_whole(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("before")
    with replace_file(path) as temporary:
        assert temporary.suffix == ".csv"
        temporary.write_text("half")
        assert path.read_text() == "before"
        temporary.write_text("after")
    assert [found.name for found in tmp_path.iterdir()] == ["table.csv"]
    assert path.read_text() == "after"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "table.csv"
    path.write_text("before")
    with pytest.raises(error), replace_file(path) as temporary:
        temporary.write_text("half")
        raise error
    assert [found.name for found in tmp_path.iterdir()] == ["table.csv"]
    assert path.read_text() == "before"
