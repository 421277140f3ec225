"""Text and CSV files → rows; what is none is refused by file and line."""

import re

import pytest

from affect.errors import InputError
from affect.pipelines.tables import read_rows, read_text


def written(tmp_path, text):
    path = tmp_path / "file"
    path.write_bytes(text.encode())
    return path


def test_what_is_no_text_or_too_large_or_not_there_is_refused(tmp_path):
    path = written(tmp_path, "\ufeffé\r\n")
    assert read_text(path) == "é\r\n"
    path.write_bytes("é".encode("utf-16"))
    with pytest.raises(InputError, match=f"^{re.escape(str(path))} is not text in UTF-8: .*invalid start byte"):
        read_text(path)
    with pytest.raises(InputError, match=r"gone cannot be read \(No such file or directory\)"):
        read_text(tmp_path / "gone")
    path.write_bytes(b" " * 2**20)
    assert len(read_text(path, most_bytes=2**20)) == 2**20
    path.write_bytes(b" " * (2**20 + 1))
    with pytest.raises(InputError, match="is larger than 1 MiB"):
        read_text(path, most_bytes=2**20)


def test_rows_of_a_table(tmp_path):
    path = written(tmp_path, 'a,"b c",d\n1,"x,\ny",3\n4,,6\n')
    assert list(read_rows(path, ("a", "d"))) == [
        (3, {"a": "1", "b c": "x,\ny", "d": "3"}),
        (4, {"a": "4", "b c": "", "d": "6"}),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,c\n1,2\n", ": there is no column b. Received: 'a, c'"),
        ("", ": there is no column a, b. Received: ''"),
        ("a,B,b\n1,2,3\n", ": there are two columns b. Received: 'a, B, b'"),
        ("a,b\n1\n", ", line 2: expected 2 fields."),
        ("a,b\n1,2,3\n", ", line 2: expected 2 fields."),
        ("a,b\n1," + "x" * 200_000, r", line \d: not CSV: field larger than field limit"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, text, expected):
    path = written(tmp_path, text)
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}{expected}"):
        list(read_rows(path, ("a", "b")))


def test_names_in_any_order_and_case_and_rows_that_are_blank(tmp_path):
    path = written(tmp_path, "C, B ,a\n3,2,1\n,,\n , ,\n\n6,5,4,\n")
    assert [(row["a"], row["b"], row["C"]) for _, row in read_rows(path, ("a", "b"))] == [
        ("1", "2", "3"),
        ("4", "5", "6"),
    ]


def test_a_pointer_to_a_large_file_is_called_that(tmp_path):
    with pytest.raises(InputError, match="is a Git LFS pointer and not the file itself. Fetch the file: git lfs pull"):
        read_text(written(tmp_path, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"))
