"""The checksum of a file, and files that are never half-written."""

import errno
import os
import tempfile

import av
import pytest

from affect.errors import describe_failure
from affect.files import make_in_folder, replace_file, sha256_of


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


@pytest.mark.parametrize("kind", [OSError, av.error.OSError])
@pytest.mark.parametrize("name", [None, "temporary"])
def test_an_error_of_the_system_names_the_file_that_was_to_be(tmp_path, kind, name):
    path = tmp_path / "film.mp4"
    with pytest.raises(OSError) as caught, replace_file(path) as temporary:
        raise kind(errno.ENOSPC, "No space left on device", *([str(temporary)] if name else []))
    assert describe_failure(caught.value).startswith(f"{path}: No space left on device. ")


def test_what_a_killed_process_left_is_removed_and_what_another_holds_is_not(tmp_path):
    (tmp_path / ".making-left" / "version").mkdir(parents=True)
    with make_in_folder(tmp_path, ".making-") as folder:
        assert [*tmp_path.iterdir()] == [folder]
        with make_in_folder(tmp_path, ".making-") as other:
            assert folder.is_dir() and other.is_dir() and folder != other
        assert [*tmp_path.iterdir()] == [folder]
    assert not [*tmp_path.iterdir()]


def test_a_temporary_folder_that_is_taken_for_one_that_was_left_is_made_again(tmp_path, monkeypatch):
    made = []

    def make(prefix, dir, make=tempfile.mkdtemp):
        made.append(make(prefix=prefix, dir=dir))
        if len(made) == 1:
            os.rmdir(made[0])
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", make)
    with make_in_folder(tmp_path, ".making-") as folder:
        assert str(folder) == made[1]
