"""At most one process works in a folder that is claimed; a claim of a process that was killed is taken over."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from affect.errors import InputError
from affect.pipelines.claims import CLAIM, claim, find_claimed

BEAT_S = 0.05
WHAT = "shards: part 1/2 is being made"


def leave_claim(folder):
    """Leaves what a process leaves that is killed while it has the claim."""
    (folder / CLAIM).mkdir()
    (folder / CLAIM / "beat").write_text(f"host-7, process 12 {'0' * 32}\n{3:020d}\n")


def test_a_claimed_folder_is_refused_with_who_has_it(tmp_path):
    with (
        claim(tmp_path, WHAT, beat_s=BEAT_S),
        pytest.raises(InputError, match=rf"^{WHAT} by \S+, process {os.getpid()}\. Wait for it\.$"),
        claim(tmp_path, WHAT, beat_s=BEAT_S),
    ):
        pass
    assert not [*tmp_path.iterdir()]


def test_a_claim_ends_with_its_block(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), claim(tmp_path, WHAT, beat_s=BEAT_S):
            raise KeyboardInterrupt
        assert not [*tmp_path.iterdir()]


def test_a_claim_that_does_not_beat_is_taken_over(tmp_path):
    leave_claim(tmp_path)
    begin = time.monotonic()
    with claim(tmp_path, WHAT, beat_s=BEAT_S) as check:
        assert time.monotonic() - begin >= 5 * BEAT_S
        assert [path.name for path in tmp_path.iterdir()] == [CLAIM]
        check()
    assert not [*tmp_path.iterdir()]


def test_a_process_whose_claim_was_taken_over_stops(tmp_path):
    with claim(tmp_path, WHAT, beat_s=BEAT_S) as check:
        check()
        (tmp_path / CLAIM).rename(tmp_path / "aside")
        leave_claim(tmp_path)
        end = time.monotonic() + 100
        with pytest.raises(InputError, match=rf"^{WHAT} by another process now, because this one gave no sign of life"):
            while time.monotonic() < end:
                check()
                time.sleep(BEAT_S)
    assert (tmp_path / CLAIM / "beat").read_text().startswith("host-7")  # the other's claim stays


@pytest.mark.parametrize("is_lost", [False, True])
def test_of_many_at_once_one_has_the_claim(tmp_path, is_lost):
    if is_lost:
        leave_claim(tmp_path)
    inside = []

    def work(_):
        try:
            with claim(tmp_path, WHAT, beat_s=BEAT_S):
                inside.append(1)
                time.sleep(2)  # longer than any of them watches
                return True
        except InputError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) == len(inside) == 1
    assert not [*tmp_path.iterdir()]


def test_a_folder_out_of_reach_for_a_moment_does_not_end_a_claim(tmp_path, monkeypatch):
    with claim(tmp_path, WHAT, beat_s=BEAT_S) as check:
        with monkeypatch.context() as patch:

            def fail(*args, **kwargs):
                raise OSError(116, "Stale file handle")

            patch.setattr(Path, "read_text", fail)
            time.sleep(4 * BEAT_S)
        check()
        assert list(find_claimed([tmp_path], beat_s=BEAT_S)) == [tmp_path]


def test_claims_that_beat_are_found(tmp_path):
    names = ("living", "killed", "free", "absent")
    folders = {name: tmp_path / name for name in names}
    for name in names[:3]:
        folders[name].mkdir()
    leave_claim(folders["killed"])
    with claim(folders["living"], WHAT, beat_s=BEAT_S):
        found = find_claimed([*folders.values()], beat_s=BEAT_S)
    assert list(found) == [folders["living"]]
    assert found[folders["living"]].endswith(f", process {os.getpid()}")
    assert not find_claimed([*folders.values()], beat_s=BEAT_S)
