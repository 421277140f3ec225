"""The benchmark of faults sees what is half-written, left, or another result; and a few of its faults are survived."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults import SIGNALS, VERBS, describe_event, find_difference, find_half_written, text

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def folders(tmp_path):
    """Results of an undisturbed run, and the same results in another folder."""
    pair = tmp_path / "undisturbed", tmp_path / "case-1"
    for folder in pair:
        (folder / "out").mkdir(parents=True)
        (folder / "out" / "a.json").write_text(f'{{"path": "{folder}"}}')
        (folder / "out" / "a.csv").write_text("a,b\n1,2\n3,4\n")
        (folder / "out" / "a.h5").write_bytes(b"weights")
        (folder / "tmp").mkdir()
    return pair


def test_the_same_result_in_another_folder_is_the_same(folders):
    reference, folder = folders
    (folder / "tmp" / "left").touch()  # the system empties its folder of temporary files
    assert find_difference(folder, reference) == find_half_written(folder, reference) == ""


@pytest.mark.parametrize(
    "name, content",
    [("a.json", '{"path": '), ("a.csv", "a,b\n1,2\n3"), ("a.h5", "weig"), ("a.md", "half a l"), ("a.keras", "PK")],
)
def test_half_a_file_is_seen_under_its_final_name_alone(name, content, folders):
    reference, folder = folders
    (folder / "out" / f"tmp-{name}").write_text(content)
    assert find_half_written(folder, reference) == ""
    (folder / "out" / name).write_text(content)
    assert find_half_written(folder, reference).startswith(f"out/{name} is half-written")


def test_what_is_left_lost_or_changed_is_seen(folders):
    reference, folder = folders
    (folder / "out" / "a.csv").write_text("a,b\n1,2\n3,5\n")
    assert find_half_written(folder, reference) == ""
    assert find_difference(folder, reference) == "out/a.csv differs"
    (folder / "out" / "tmp-a.csv").touch()
    assert find_difference(folder, reference) == "out/tmp-a.csv is left"
    (reference / "out" / "tmp-a.csv").touch()
    (folder / "out" / "a.h5").unlink()
    assert find_difference(folder, reference) == "out/a.h5 is missing"


def test_writes_below_the_folder_are_moments():
    assert describe_event("open", ("/run/out/tmp-a1.csv", "w", 0), "/run") == ("open", "out/tmp-a#.csv")
    renamed = ("/run/m/.export-abcd1234/version", "/run/m/12", -1, -1)
    assert describe_event("os.rename", renamed, "/run") == ("os.rename", "m/.export-*/version m/#")
    assert describe_event("open", ("/run/out/a.csv", "r", 0), "/run") is None
    assert describe_event("open", ("/other/a.csv", "w", 0), "/run") is None
    assert describe_event("open", ("/run/tmp/a", "w", 0), "/run") is None


@pytest.mark.large
def test_a_few_faults_are_survived(tmp_path):
    command = [sys.executable, "-m", "benchmarks.faults", "--count", "10", "--processes", "1", "--seed", "1"]
    command += ["--verb", "predict", "--verb", "prepare", "--work", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    *_, header, _, predict, prepare, whole, moments, last = done.stdout.splitlines()
    assert header.strip("| ").split(" | ") == ["command", *SIGNALS, "all"]
    assert [line.split(" | ")[0].strip("| ") for line in (predict, prepare, whole)] == ["predict", "prepare", "all"]
    assert moments.endswith("1 time") and last == "11 faults, 11 survived"
    assert {"predict", "prepare"} < set(VERBS) and text([]).count("0 of 0") == 5
