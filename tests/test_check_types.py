"""mypy reads the package by the names that are installed."""

from tests.check_types import link_package, read_map
from tests.documents import ROOT


def test_folders_of_the_checkout_are_below_the_one_import_name(tmp_path):
    link_package(tmp_path)
    assert read_map() == {"configs": "configs", "pipelines": "pipelines"}
    for name in ("cli", "pipelines/faces", "configs/paper_a"):
        file = (tmp_path / "affect" / f"{name}.py").resolve()
        assert file == ROOT / (f"{name}.py" if "/" in name else f"affect/{name}.py")
