"""Layouts of data sets → lists of clips; nothing is read of the videos, so empty files do."""

import re
from pathlib import Path

import pytest

from affect.errors import InputError
from pipelines.datasets import DATASETS
from pipelines.datasets.afew import afew
from pipelines.datasets.csv_list import csv_list
from pipelines.datasets.folder import folder
from pipelines.datasets.source import LONGEST_NAME, Source, check_clips


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def rows(clips):
    return [(clip.key, clip.label, clip.subject, clip.split) for clip in clips]


def written(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "list.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_says_what_is_not_there(tmp_path, name):
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "nowhere"))):
        DATASETS[name](tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["folder", "afew"])
def test_a_file_in_place_of_a_folder_is_refused(tmp_path, name):
    path = make(tmp_path, "a.mp4") / "a.mp4"
    with pytest.raises(InputError, match=f"^There is no folder {re.escape(str(path))}.$"):
        DATASETS[name](path)


def test_folder_of_splits_and_classes(tmp_path):
    make(tmp_path, "train/happy/b.mp4", "train/happy/a.MOV", "train/Sad/a.avi", "test/HAPPY/c.webm", "val/Bored/d.mkv")
    clips = folder(tmp_path)
    assert sorted(rows(clips)) == [
        ("test/HAPPY/c", "happy", "", "test"),
        ("train/Sad/a", "sad", "", "train"),
        ("train/happy/a", "happy", "", "train"),
        ("train/happy/b", "happy", "", "train"),
        ("val/Bored/d", "Bored", "", "val"),
    ]
    assert {clip.path for clip in clips} == {path for path in tmp_path.rglob("*") if path.is_file()}
    assert {(clip.start_s, clip.end_s) for clip in clips} == {(None, None)}


def test_folder_of_classes(tmp_path):
    make(tmp_path, "Angry/1.mp4", "surprise/2.mp4", "Café/3.mp4")
    assert sorted(rows(folder(str(tmp_path)))) == [
        ("Angry/1", "angry", "", "all"),
        ("Café/3", "Café", "", "all"),
        ("surprise/2", "surprise", "", "all"),
    ]


def test_folder_without_labels(tmp_path):
    make(tmp_path, "b.v2.mp4", "a.mp4")
    assert rows(folder(tmp_path)) == [("a", "", "", "all"), ("b.v2", "", "", "all")]


def test_folder_leaves_out_hidden_things_and_other_files(tmp_path):
    make(tmp_path, "happy/a.mp4", "happy/._a.mp4", ".trash/sad/b.mp4", ".c.mp4", "happy/a.srt", "readme.txt")
    (tmp_path / "happy" / "folder.mp4").mkdir()
    assert [clip.key for clip in folder(tmp_path)] == ["happy/a"]


@pytest.mark.parametrize("lost", ["Train/happy/b.mp4", "train/b.mp4", "happy/more/b.mp4", "train/happy/more/b.mp4"])
def test_folder_names_videos_that_have_no_place(tmp_path, lost):
    make(tmp_path, "train/happy/a.mp4", "sad/a.mp4", lost)
    text = f"{tmp_path}: 1 videos lie where no class is expected, such as {tmp_path / lost}. Expected SOURCE/["
    with pytest.raises(InputError, match=re.escape(text)):
        folder(tmp_path)


def test_folder_without_videos_is_an_error(tmp_path):
    make(tmp_path, "happy/a.txt")
    with pytest.raises(InputError, match=r"holds no videos\. Expected SOURCE/\[train\|val\|test/\]CLASS/VIDEO"):
        folder(tmp_path)


def test_afew(tmp_path):
    make(
        tmp_path,
        "Train_AFEW/Angry/000046280.avi",
        "Train_AFEW/Neutral/002.avi",
        "Val_AFEW/Surprise/003.avi",
        "Val_AFEW/Surprise/notes.txt",
        "Val_AFEW/Fear/.DS_Store",
    )
    clips = afew(tmp_path)
    assert rows(clips) == [
        ("train/000046280", "angry", "", "train"),
        ("train/002", "neutral", "", "train"),
        ("val/003", "surprise", "", "val"),
    ]
    assert clips[0].path == tmp_path / "Train_AFEW" / "Angry" / "000046280.avi"


def test_afew_with_one_of_its_splits(tmp_path):
    make(tmp_path, *(f"Val_AFEW/{name}/1{name}.avi" for name in ("Angry", "Disgust", "Fear", "Happy", "Sad")))
    assert [clip.label for clip in afew(tmp_path)] == ["angry", "disgust", "fear", "happy", "sad"]


def test_what_is_not_afew_is_refused(tmp_path):
    make(tmp_path, "Train/Joy/1.avi")
    with pytest.raises(InputError, match=r"is not AFEW\. Expected .*/Train_AFEW/Angry/\*\.avi"):
        afew(tmp_path)


def test_csv_with_every_column_and_a_byte_order_mark(tmp_path):
    text = "path,label,subject,split,start_s,end_s\r\n"
    text += "clips/a.mp4,happy,anna,train,0,2.5\r\n"
    text += ' clips/a.mp4 ,"sad",anna,train,2.5,\r\n'
    text += "clips/é.mp4,,,,,\r\n\r\n"
    clips = csv_list(written(tmp_path, text, "utf-8-sig"))
    assert rows(clips) == [
        ("clips/a@0-2.5", "happy", "anna", "train"),
        ("clips/a@2.5-end", "sad", "anna", "train"),
        ("clips/é", "", "", "all"),
    ]
    assert [(clip.start_s, clip.end_s) for clip in clips] == [(0.0, 2.5), (2.5, None), (None, None)]
    assert [clip.path for clip in clips] == [tmp_path / "clips/a.mp4"] * 2 + [tmp_path / "clips/é.mp4"]


def test_csv_with_paths_alone(tmp_path):
    path = written(tmp_path, "path\n../up/b.mp4\n/far/c.mp4\n./d.e.mp4\n")
    clips = csv_list(path)
    assert [clip.key for clip in clips] == ["../up/b", "/far/c", "d.e"]
    assert clips[1].path == Path("/far/c.mp4")
    assert clips[0].path == tmp_path / "../up/b.mp4"


def test_csv_keys_tell_close_times_apart(tmp_path):
    text = "path,start_s,end_s\na.mp4,12345.64,12345.68\na.mp4,12345.68,12345.72\n"
    assert [clip.key for clip in csv_list(written(tmp_path, text))] == ["a@12345.64-12345.68", "a@12345.68-12345.72"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected the columns path, label, subject, split, start_s, end_s. Received: "),
        ("file,label\na.mp4,happy\n", "expected the columns path, label,.* Received: file, label$"),
        ("path,emotion\na.mp4,happy\n", "expected the columns path, label,.* Received: path, emotion$"),
        ("path;label\na.mp4;happy\n", "expected the columns path, label,.* Received: path;label$"),
        ("path,label\n", "lists no videos.$"),
        ("path,label\na.mp4,happy\n,sad\n", "line 3: the path names no file. Received: ''$"),
        ("path\n.\n", r"line 2: the path names no file. Received: '\.'$"),
        ("path\n/\n", "line 2: the path names no file. Received: '/'$"),
        ("path,label\na,b.mp4,happy\n", "line 2: more fields than the header has columns.$"),
        ("path,start_s\na.mp4,soon\n", "line 2: start_s must be seconds, 0 or more. Received: 'soon'$"),
        ("path,start_s\na.mp4,-1\n", "line 2: start_s must be seconds, 0 or more. Received: '-1'$"),
        ("path,end_s\na.mp4,nan\n", "line 2: end_s must be seconds, 0 or more. Received: 'nan'$"),
        ("path,end_s\na.mp4,1e999\n", "line 2: end_s must be seconds, 0 or more. Received: '1e999'$"),
        ("path,start_s,end_s\na.mp4,3,2\n", r"line 2: end_s must be after start_s. Received: 3\.0 and 2\.0$"),
        ("path,start_s,end_s\na.mp4,3,3\n", r"line 2: end_s must be after start_s. Received: 3\.0 and 3\.0$"),
        ("path,end_s\na.mp4,0\n", r"line 2: end_s must be after start_s. Received: None and 0\.0$"),
        ("path,split\na.mp4,../train\n", r"line 2: the split must be a word, such as train. Received: '\.\./train'$"),
    ],
)
def test_csv_errors_name_file_line_and_value(tmp_path, text, expected):
    path = written(tmp_path, text)
    with pytest.raises(InputError, match=f"(?s)^{re.escape(str(path))}.*{expected}"):
        csv_list(path)


def test_csv_in_another_encoding_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is not a CSV file in UTF-8: .*invalid continuation byte"):
        csv_list(written(tmp_path, "path,label\ncafé.mp4,happy\n", "latin-1"))


def test_afew_with_a_folder_of_another_class(tmp_path):
    (tmp_path / "Train_AFEW" / "Contempt").mkdir(parents=True)
    with pytest.raises(InputError, match="Contempt is not one of AFEW's classes. Expected one of .'Angry'"):
        afew(tmp_path)


def test_a_subject_stands_in_one_split():
    clips = [Source(str(index), Path("a"), subject="anna", split="train") for index in range(3)]
    clips += [Source("b", Path("b"), split="train"), Source("c", Path("c"), split="test")]
    assert check_clips("here", clips) == clips
    clips.append(Source("d", Path("d"), subject="anna", split="val"))
    with pytest.raises(InputError, match="^here: subject 'anna' stands in the splits 'train' and 'val'. Put all clips"):
        check_clips("here", clips)


@pytest.mark.parametrize("field", ["key", "label", "subject"])
@pytest.mark.parametrize("name", ["a\nb", "a\0b", "\x1b[2J", "a\u2028b", b"caf\xe9".decode(errors="surrogateescape")])
def test_names_that_are_no_text_are_refused(field, name):
    clip = Source(**{"key": "a", "path": Path("a"), field: name})
    with pytest.raises(InputError, match=r"^here: a name has control characters or is not UTF-8: '.*'\. Rename it\.$"):
        check_clips("here", [clip])


def test_names_in_any_script_pass_up_to_a_length():
    clips = [Source("表情 🙂/é\u3000\u00a0", Path("a")), Source("x" * LONGEST_NAME, Path("b"))]
    assert check_clips("here", clips) == clips
    with pytest.raises(InputError, match="^here: a name has 1001 characters, more than 1000: 'xxx"):
        check_clips("here", [Source("x" * (LONGEST_NAME + 1), Path("b"))])
