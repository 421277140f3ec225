"""Layouts of data sets → lists of clips; nothing is read of the videos, so empty files do."""

import os
import re
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from affect.data.clips import Dimensions
from affect.errors import InputError
from affect.pipelines.aligned import list_images, stray_images
from affect.pipelines.datasets import DATASETS, PUBLISHED
from affect.pipelines.datasets.afew import afew
from affect.pipelines.datasets.afew_faces import afew_faces
from affect.pipelines.datasets.crema_d import crema_d
from affect.pipelines.datasets.csv_list import csv_list
from affect.pipelines.datasets.folder import folder
from affect.pipelines.datasets.ravdess import ravdess
from affect.pipelines.datasets.recola import recola
from affect.pipelines.datasets.sewa import sewa
from affect.pipelines.datasets.source import LONGEST_NAME, Clips, Source, check_clips, looks_like_video
from affect.pipelines.files import name_fault


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def write(root, **texts):
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
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


@pytest.mark.parametrize("name", sorted(DATASETS.keys() - {"csv"}))
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
    assert [clip.key for clip in folder(tmp_path)] == ["happy/a"]


@pytest.mark.parametrize("lost", ["train/b.mp4", "happy/more/b.mp4", "train/happy/more/b.mp4"])
def test_folder_names_videos_that_have_no_place(tmp_path, lost):
    make(tmp_path, "train/happy/a.mp4", "sad/a.mp4", lost)
    clips = folder(tmp_path)
    assert sorted(clip.key for clip in clips) == ["sad/a", "train/happy/a"]
    (line,) = clips.left_out
    assert line.startswith(f"{(tmp_path / lost).parent}: 1 video not of this data set (b.mp4). Expected SOU")


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
        ("", "expected the columns path, label, subject, split, start_s, end_s. Received: ''$"),
        ("file,label\na.mp4,happy\n", "expected the columns path, label,.* Received: 'file, label'$"),
        ("path,emotion\na.mp4,happy\n", "expected the columns path, label,.* Received: 'path, emotion'$"),
        ("path;label\na.mp4;happy\n", "expected the columns path, label,.* Received: 'path;label'$"),
        ("path,label\n", "lists no videos.$"),
        ("path,label\n,happy\n,sad\n", "line 2: the path names no file. Received: ''. 1 more cannot be used.$"),
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
    make(tmp_path, "Train_AFEW/Angry/1.avi")
    clips = afew(tmp_path)
    assert not clips.left_out and "Contempt is not one of" in clips.notes[0]  # it has no videos
    (tmp_path / "Train_AFEW/Angry/1.avi").rename(tmp_path / "Train_AFEW/Contempt/1.avi")
    with pytest.raises(InputError, match="Contempt is not one of AFEW's classes. Expected one of .'Angry'"):
        afew(tmp_path)


def test_a_subject_stands_in_one_split():
    clips = [Source(str(index), Path("a"), subject="anna", split="train") for index in range(3)]
    clips += [Source("b", Path("b"), split="train"), Source("c", Path("c"), split="test")]
    assert check_clips("here", clips) == clips
    clips.append(Source("d", Path("d"), subject="anna", split="val"))
    with pytest.raises(InputError, match="^here: subject 'anna' is in the splits 'train' and 'val'. Put all clips"):
        check_clips("here", clips)


@pytest.mark.parametrize("part", ["a@1", "a#000", "a@12#000", "a@1#1000"])
def test_keys_that_may_be_those_of_parts_are_left_out(part):
    clips = [Source(key, Path("a")) for key in ("b", "a@0-1", "a@x", "a#x", "c@1", "c#000", part)]
    assert check_clips("here", clips) == clips
    text = f"^here: the key {part} may also be a part of a. Rename one of them."
    found = check_clips("here", [Source("a", Path("a")), *clips])
    assert found == [Source("a", Path("a")), *clips[:-1]]
    assert re.match(text, found.left_out[0]) and len(found.left_out) == 1
    found = check_clips("here", [Source("d@1#000", Path("a")), Source("d@1", Path("a"))])
    assert [clip.key for clip in found] == ["d@1"]
    assert found.left_out == ["here: the key d@1#000 may also be a part of d@1. Rename one of them."]


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


def test_afew_leaves_the_aligned_faces_to_afew_faces(tmp_path):
    make(tmp_path, "Train_AFEW/Angry/001.avi", "Train_AFEW/AlignedFaces_LBPTOP_Points/Faces/001/0.jpg")
    assert [clip.key for clip in afew(tmp_path)] == ["train/001"]


def test_afew_faces_wherever_the_archives_were_unpacked(tmp_path):
    inner, outer = (
        "AlignedFaces_LBPTOP_Points/Faces",
        "AlignedFaces_LBPTOP_Points_Val/AlignedFaces_LBPTOP_Points_Val/Faces",
    )
    make(tmp_path, "Train_AFEW/Angry/001.avi", "Train_AFEW/Sad/002.avi", "Val_AFEW/Happy/003.avi")
    make(tmp_path, f"Train_AFEW/{inner}/001/000.jpg", f"Val_AFEW/{outer}/003/000.jpg")
    clips = afew_faces(tmp_path)
    expected = [("train/001", "angry", "", "train"), ("train/002", "sad", "", "train"), ("val/003", "happy", "", "val")]
    assert rows(clips) == expected
    assert all(clip.aligned for clip in clips)
    assert clips[0].path == tmp_path / "Train_AFEW" / inner / "001"
    assert not clips[1].path.exists()
    assert clips[2].path == tmp_path / "Val_AFEW" / outer / "003"


def test_afew_faces_beside_the_splits(tmp_path):
    make(tmp_path, "Train_AFEW/Angry/001.avi", "Val_AFEW/Happy/001.avi")
    places = ["AlignedFaces_LBPTOP_Points/Faces/001/000.jpg", "AlignedFaces_LBPTOP_Points_Val/Faces/001/000.jpg"]
    make(tmp_path, *places)
    assert [clip.path for clip in afew_faces(tmp_path)] == [(tmp_path / place).parent for place in places]


def test_afew_faces_without_labels_or_without_faces_are_refused(tmp_path):
    make(tmp_path, "Train_AFEW/Angry/001.avi")
    with pytest.raises(InputError, match=r"has no aligned faces\. Expected Train_AFEW/AlignedFaces_LBPTOP_Points"):
        afew_faces(tmp_path)
    make(tmp_path, "Train_AFEW/AlignedFaces_LBPTOP_Points/Faces/002/000.jpg")
    with pytest.raises(InputError, match=r"Faces/002 has no label: no video is named train/002\.avi in that split"):
        afew_faces(tmp_path)


def test_ravdess_lists_each_take_once(tmp_path):
    make(
        tmp_path,
        "Actor_01/01-01-01-01-01-01-01.mp4",
        "Actor_01/02-01-01-01-01-01-01.mp4",
        "Actor_01/02-01-02-02-02-02-01.mp4",
        "Actor_01/03-01-02-02-02-02-01.wav",
        "Video_Song_Actor_24/Actor_24/01-02-06-01-01-01-24.mp4",
    )
    assert sorted(rows(ravdess(tmp_path))) == [
        ("01-02-06-01-01-01-24", "fear", "24", "all"),
        ("02-01-01-01-01-01-01", "neutral", "01", "all"),
        ("02-01-02-02-02-02-01", "calm", "01", "all"),
    ]


def test_ravdess_emotions_by_number(tmp_path):
    make(tmp_path, *(f"02-01-0{number}-01-01-01-07.mp4" for number in range(1, 9)))
    labels = [clip.label for clip in sorted(ravdess(tmp_path), key=lambda clip: clip.key)]
    assert labels == ["neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprise"]


def test_ravdess_take_in_two_places_is_used_once_and_named(tmp_path):
    make(tmp_path, "a/02-01-01-01-01-01-01.mp4", "b/02-01-01-01-01-01-01.mp4")
    clips = check_clips(tmp_path, ravdess(tmp_path))
    assert [clip.path.parent.name for clip in clips] == ["a"]
    (line,) = clips.left_out
    assert re.search("two videos have the same key: 02-01-01-01-01-01-01. .*/a/.* is used, and not .*/b/", line)


@pytest.mark.parametrize(
    "name", ["a.mp4", "03-01-01-01-01-01-01.mp4", "02-01-09-01-01-01-01.mp4", "02-01-01-01-01-01.mp4"]
)
def test_what_is_not_ravdess_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"is not RAVDESS\. Expected .*/Actor_01/02-01-01-01-01-01-01\.mp4"):
        ravdess(tmp_path)
    make(tmp_path, name)
    with pytest.raises(InputError, match=rf"{re.escape(name)}\)\. A name is not as RAVDESS"):
        ravdess(tmp_path)


TABULATED = """"","A","D","F","H","N","S","fileName","numResponses"
"100001",0,0,0,0,9,0,"1001_IEO_ANG_LO",9
"200001",1,3,0,0,4,0,"1001_IEO_ANG_LO",8
"200002",0,0,0,5,0,0,"1002_DFA_HAP_XX",5
"300001",9,0,0,0,0,0,"1001_IEO_ANG_LO",9
"""
SUMMARY = """"","FileName","VoiceVote","FaceVote"
"1","1001_IEO_ANG_LO","N","A:D"
"2","1002_DFA_HAP_XX","N","H"
"""
CREMA_D_VIDEOS = ("VideoFlash/1001_IEO_ANG_LO.flv", "VideoFlash/1002_DFA_HAP_XX.flv")


def test_crema_d_without_tables(tmp_path):
    clips = crema_d(make(tmp_path, *CREMA_D_VIDEOS))
    assert rows(clips) == [("1001_IEO_ANG_LO", "angry", "1001", "all"), ("1002_DFA_HAP_XX", "happy", "1002", "all")]
    assert [clip.votes for clip in clips] == [None, None]


@pytest.mark.parametrize("start", [".", "VideoFlash"])
@pytest.mark.parametrize("folder", ["", "processedResults/"])
def test_crema_d_votes_are_those_for_the_face(tmp_path, start, folder):
    make(tmp_path, *CREMA_D_VIDEOS)
    write(tmp_path, **{f"{folder}summaryTable.csv": SUMMARY})
    votes = [clip.votes for clip in crema_d(tmp_path / start)]
    assert votes == [{"angry": 0.5, "disgust": 0.5}, {"happy": 1.0}]
    write(tmp_path, **{f"{folder}tabulatedVotes.csv": TABULATED})
    votes = [clip.votes for clip in crema_d(tmp_path / start)]
    assert votes == [{"angry": 0.125, "disgust": 0.375, "neutral": 0.5}, {"happy": 1.0}]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("summaryTable.csv", SUMMARY.replace("A:D", "A:X"), "line 2: expected a vote such as A or A:D.*'A:X'"),
        ("summaryTable.csv", SUMMARY.replace("A:D", ""), "line 2: expected a vote"),
        ("summaryTable.csv", SUMMARY.replace("A:D", "A:A"), "line 2: expected a vote"),
        (
            "summaryTable.csv",
            SUMMARY + '"3","1001_ieo_ang_lo.mp4","N","S"\n',
            "line 4: 1001_IEO_ANG_LO is there tw",
        ),
        ("tabulatedVotes.csv", TABULATED.replace(",3,0", ",-3,0"), "line 3: expected the number of the query, such"),
        (
            "tabulatedVotes.csv",
            TABULATED.replace("200001", "face"),
            "line 3: expected the number of the query, such as",
        ),
        ("tabulatedVotes.csv", TABULATED.replace("200001", "2"), "line 3: expected the number of the query, such"),
        ("tabulatedVotes.csv", TABULATED.replace("1,3,0,0,4", "0,0,0,0,0"), "line 3: '1001_IEO_ANG_LO' has no votes"),
        ("tabulatedVotes.csv", TABULATED.replace("300001", "200003"), "line 5: 1001_IEO_ANG_LO is there twice"),
    ],
)
def test_crema_d_rows_that_are_damaged_cost_their_clip_alone(tmp_path, name, text, expected):
    write(make(tmp_path, *CREMA_D_VIDEOS), **{name: text})
    one, two = crema_d(tmp_path)
    assert re.match(f"{re.escape(str(tmp_path / name))}, {expected}", one.problem) and one.votes is None
    assert (two.problem, two.votes) == ("", {"happy": 1.0})


def test_crema_d_tables_in_other_hands(tmp_path):
    make(tmp_path, *CREMA_D_VIDEOS)
    text = SUMMARY.replace("1001_IEO_ANG_LO", "1001_ieo_ang_lo.flv").replace("A:D", "a : D") + ",,,\n"
    write(tmp_path, **{"SUMMARYtable.CSV": text + '"3","1002_DFA_HAP_XX","N","H"\n"4","1003'})
    clips = crema_d(tmp_path)
    assert [clip.votes for clip in clips] == [{"angry": 0.5, "disgust": 0.5}, {"happy": 1.0}]
    assert clips.left_out == [f"{tmp_path / 'SUMMARYtable.CSV'}, line 6: expected 4 fields."]
    # As pandas writes it back: an index comes before the number of the query.
    rows = TABULATED.replace('"","A"', '"","Unnamed: 0","A"').splitlines()
    write(tmp_path, **{"tabulatedVotes.csv": "\n".join([rows[0], *(f"{i},{row}" for i, row in enumerate(rows[1:]))])})
    expected = [{"angry": 0.125, "disgust": 0.375, "neutral": 0.5}, {"happy": 1.0}]
    assert [clip.votes for clip in crema_d(tmp_path)] == expected


@pytest.mark.parametrize("name", ["summaryTable.csv", "tabulatedVotes.csv"])
def test_crema_d_tables_that_cannot_be_read_are_refused(tmp_path, name):
    make(tmp_path, *CREMA_D_VIDEOS)
    (tmp_path / name).symlink_to("gone.csv")
    with pytest.raises(InputError, match=f"{name} is a link to gone.csv, which is not there"):
        crema_d(tmp_path)
    (tmp_path / name).unlink()
    write(tmp_path, **{name: "a,b\n1,2\n"})
    with pytest.raises(InputError, match=f"{name}: there is no column"):
        crema_d(tmp_path)


def test_what_is_not_crema_d_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is not CREMA-D\. Expected .*/VideoFlash/1001_DFA_ANG_XX\.flv"):
        crema_d(tmp_path)
    make(tmp_path, "VideoFlash/1001_DFA_JOY_XX.flv")
    with pytest.raises(InputError, match=r"1001_DFA_JOY_XX\.flv\)\. A name is not as CREMA-D names"):
        crema_d(tmp_path)


def test_crema_d_whole_with_its_real_table(shared_data, tmp_path):
    table = (shared_data / "crema_d" / "summaryTable.csv").read_text()
    names = re.findall(
        r"1\d{3}_[A-Z]{3}_[A-Z]{3}_[A-Z]+", (shared_data / "crema_d" / "SentenceFilenames.csv").read_text()
    )
    make(tmp_path, *(f"VideoFlash/{name}.flv" for name in names))
    write(tmp_path, **{"processedResults/summaryTable.csv": table})
    clips = check_clips(tmp_path, crema_d(tmp_path))
    assert len(clips) == 7442
    assert len({clip.subject for clip in clips}) == 91
    assert Counter((clip.split, clip.label) for clip in clips) == PUBLISHED["crema_d"]
    assert all(abs(sum(clip.votes.values()) - 1) < 1e-9 for clip in clips)
    # Counted in the table: its column FaceVote holds 6,972 single letters, and «A:D:F:N:S» once.
    assert Counter(len(clip.votes) for clip in clips) == {1: 6972, 2: 414, 3: 47, 4: 8, 5: 1}
    by_key = {clip.key: clip for clip in clips}
    assert (by_key["1001_IEO_SAD_HI"].label, by_key["1001_IEO_SAD_HI"].votes) == ("sad", {"angry": 0.5, "fear": 0.5})


def arff(*values, step=0.04):
    text = "@relation GOLDSTANDARD\n\n@attribute Instance_name string\n@attribute frameTime numeric\n"
    text += "@attribute GoldStandard numeric\n\n@data\n\n"
    return text + "".join(f"train_1,{index * step:g},{value}\n" for index, value in enumerate(values))


GOLD = "ratings_gold_standard/{}/{}.arff"
RECOLA = {GOLD.format("arousal", "train_1"): arff(0.5, 0.25), GOLD.format("valence", "train_1"): arff(-0.5, 0)}


def test_recola(tmp_path):
    dev = {name.replace("train", "dev"): text.replace("train", "dev") for name, text in RECOLA.items()}
    write(tmp_path, **RECOLA, **dev)
    make(
        tmp_path,
        "recordings_video/train_1.avi",
        "recordings_video/test_9.mp4",
        "ratings_gold_standard/arousal/all.arff",
    )
    clips = recola(tmp_path)
    assert rows(clips) == [
        ("dev_1", "", "dev_1", "val"),
        ("test_9", "", "test_9", "test"),
        ("train_1", "", "train_1", "train"),
    ]
    rated = Dimensions(times_s=(0.0, 0.04), valence=(-0.5, 0.0), arousal=(0.5, 0.25))
    assert [clip.dimensions for clip in clips] == [rated, None, rated]
    assert clips[2].path == tmp_path / "recordings_video/train_1.avi"
    # It is rated and not there: prepare names it.
    assert clips[0].path == tmp_path / "recordings_video/dev_1.mp4"


def test_recola_of_individual_raters_where_there_is_no_gold_standard(tmp_path):
    text = "time;FM1;FM2;FF1\n0;0;1;0\n0.04;1;2;2\n0.08;2;3;4\n"
    write(tmp_path, **{f"ratings_individual/{name}/dev_2.csv": text for name in ("arousal", "valence")})
    write(tmp_path, **{GOLD.format("valence", "dev_2"): arff(0.5, 0.25, 0).replace("train_1", "dev_2")})
    (clip,) = recola(tmp_path)
    assert clip.dimensions.valence == (0.5, 0.25, 0.0)
    # By hand in test_ratings.py.
    assert clip.dimensions.arousal == pytest.approx((108 / 64 - 4 / 3, 108 / 64, 108 / 64 + 4 / 3))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, r"is not RECOLA\. Expected .*/ratings_gold_standard/arousal/train_1\.arff"),
        (
            {GOLD.format("arousal", "test_1"): arff(0, 1).replace("train", "test")},
            r"test_1 has no ratings of valence\. Expected .*/valence/test_1\.arff",
        ),
        (
            RECOLA | {GOLD.format("arousal", "train_1"): arff(0, 1, 2)},
            "of train_1 are rated at different times, 3 and 2",
        ),
        (
            RECOLA | {GOLD.format("arousal", "train_1"): arff(0, 1, step=0.05)},
            "of train_1 are rated at different times, 2 and 2",
        ),
        (RECOLA | {GOLD.format("arousal", "train_1"): arff(0, "x")}, r"train_1\.arff, line 10: expected a rating"),
    ],
)
def test_what_is_not_whole_of_recola_is_refused(tmp_path, files, expected):
    write(tmp_path, **files)
    with pytest.raises(InputError, match=expected):
        recola(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "'Train_01';0.0;0.5;-0.5;0\n'Train_01';0.1;0.25;0;1\n",
        "name;timestamp;arousal;valence;liking\nTrain_01;0;0.5;-0.5;0\nTrain_01;0.1;0.25;0;1\n",
        "Name;Timestamp;Valence;Arousal\nTrain_01;0;-0.5;0.5\nTrain_01;0.1;0;0.25\n",
    ],
)
def test_sewa_with_and_without_a_header(tmp_path, text):
    other = text.replace("Train_01", "Devel_DE_14")
    write(tmp_path, **{"labels/Train_01.csv": text, "labels/Devel_DE_14.csv": other})
    make(tmp_path, "video/Train_01.avi", "video/Test_03.avi")
    clips = sewa(tmp_path)
    assert rows(clips) == [
        ("Devel_DE_14", "", "Devel_DE_14", "val"),
        ("Test_03", "", "Test_03", "test"),
        ("Train_01", "", "Train_01", "train"),
    ]
    rated = Dimensions(times_s=(0.0, 0.1), valence=(-0.5, 0.0), arousal=(0.5, 0.25))
    assert [clip.dimensions for clip in clips] == [rated, None, rated]
    assert [clip.path.name for clip in clips] == ["Devel_DE_14.avi", "Test_03.avi", "Train_01.avi"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, r"is not SEWA\. Expected .*/labels/Train_01\.csv"),
        ({"labels/Train_01.csv": "n;0;0.5;-0.5\n"}, r"Train_01\.csv, line 1: expected 5 fields\. Received: 4"),
        (
            {"labels/Train_01.csv": "n;t;arousal;valence\nn;0;1;1\n"},
            r"no column name\. Expected the columns name;timestamp;arousal;valence;liking\. Received: n;t;arousal;val",
        ),
        ({"labels/Train_01.csv": "name;timestamp;arousal\nn;0;1\n"}, r"no column valence\. .*;arousal$"),
        ({"labels/Train_01.csv": "timestamp;arousal;valence;liking\n0;1;1;1\n"}, r"there is no column name\. Expected"),
        ({"labels/Train_01.csv": "Train_02;0;0.5;-0.5;0\n"}, r"line 1: expected a row of Train_01\. Rec.*02'"),
    ],
)
def test_what_is_not_whole_of_sewa_is_refused(tmp_path, files, expected):
    write(tmp_path, **files)
    with pytest.raises(InputError, match=expected):
        sewa(tmp_path)


def checked(name, source):
    return check_clips(source, DATASETS[name](source))


# A good clip of each data set: its key, its files, and the text of those that are not empty.
GOOD = {
    "afew": ("train/1", ["Train_AFEW/Angry/1.avi"], {}),
    "afew_faces": (
        "train/1",
        ["Train_AFEW/Angry/1.avi", "Train_AFEW/AlignedFaces_LBPTOP_Points/Faces/1/0.jpg"],
        {},
    ),
    "crema_d": ("1001_DFA_ANG_XX", ["VideoFlash/1001_DFA_ANG_XX.flv"], {}),
    "folder": ("happy/a", ["happy/a.mp4"], {}),
    "ravdess": ("02-01-06-01-02-01-01", ["Actor_01/02-01-06-01-02-01-01.mp4"], {}),
    "recola": ("train_1", ["recordings_video/train_1.mp4"], RECOLA),
    "sewa": ("Train_01", ["video/Train_01.avi"], {"labels/Train_01.csv": "Train_01;0;0.5;-0.5;0\n"}),
}
FOLDERS = sorted(GOOD)


def good(root, name):
    key, files, texts = GOOD[name]
    write(make(root, *files), **texts)
    return key


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("odd", ["odd/deep/notes.mp4", "odd/deep/notes.MTS", "odd/deep/notes.3gp.part", "link", "fifo"])
def test_an_odd_video_is_named_and_the_others_are_listed(tmp_path, name, odd):
    key = good(tmp_path, name)
    path = tmp_path / ("odd/deep/notes.ts" if odd in ("link", "fifo") else odd)
    path.parent.mkdir(parents=True)
    if odd == "link":
        path.symlink_to("nowhere.ts")
    elif odd == "fifo":
        os.mkfifo(path)
    else:
        path.touch()
    clips = checked(name, tmp_path)
    assert [(clip.key, clip.problem) for clip in clips] == [(key, "")]
    (line,) = clips.left_out
    assert line.startswith(f"{path.parent}: 1 video not of this data set ({path.name}). ")


@pytest.mark.parametrize("name", FOLDERS)
def test_a_clip_that_is_there_twice_is_named_and_used_once(tmp_path, name):
    key = good(tmp_path, name)
    video = tmp_path / GOOD[name][1][0]
    video.with_suffix(".mkv").touch()
    clips = checked(name, tmp_path)
    if name == "afew_faces":  # the faces are there once
        assert [clip.key for clip in clips] == [key] and clips.notes == [
            f"{tmp_path}: {key} is listed twice and used once."
        ]
        return
    if name == "folder":
        assert [clip.key for clip in clips] == [f"{key}.mkv", f"{key}.mp4"] and not clips.left_out
        return
    (clip,) = clips
    (line,) = clips.left_out
    assert clip.key == key and video.stem in line and ".mkv" in line and " is used, and not " in line


@pytest.mark.parametrize("name", FOLDERS)
def test_what_is_good_alone_says_nothing(tmp_path, name):
    good(tmp_path, name)
    clips = checked(name, tmp_path)
    assert (len(clips), clips.left_out, clips.notes) == (1, [], [])


@pytest.mark.parametrize("suffix", [".MTS", ".m2ts", ".3gp", ".ogv", ".ts", ".MP4", ".vob", ".divx", ".qt", ".asf"])
def test_files_that_are_probably_videos_are_clips(tmp_path, suffix):
    make(tmp_path, f"happy/a{suffix}")
    assert [clip.path.suffix for clip in folder(tmp_path)] == [suffix]


def test_videos_are_known_by_their_content_too(tmp_path):
    contents = {
        "clip": b"\0\0\0\x20ftypisom",
        "clip.dat": b"\0\0\1\xba0",
        "clip.000": b"RIFF1234AVI LIST",
        "clip.bin": b"\x1a\x45\xdf\xa3",
        "clip.dvr": b"\x47" + (b"0" * 187 + b"\x47") * 2,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    others = make(tmp_path, "notes.txt", "a.jpg", "a.wav", "a.csv", "a.json", "README", ".a.mp4", "data.bin")
    (others / "sound.m4a").write_bytes(contents["clip"])
    found = {path.name for path in tmp_path.iterdir() if looks_like_video(path)}
    assert found == set(contents)


def test_what_is_no_file_is_listed_with_its_reason(tmp_path):
    make(tmp_path, "happy/a.mp4")
    (tmp_path / "happy/folder.mp4").mkdir()
    (tmp_path / "happy/link.mp4").symlink_to("gone.mp4")
    (tmp_path / "happy/null.mp4").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "happy/pipe.mp4")
    (tmp_path / "happy/large.mp4").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    faults = {clip.path.stem: name_fault(clip.path) for clip in folder(tmp_path)}
    assert faults.pop("a") == ""
    for name, text in {
        "folder": "is a folder",
        "link": "is a link to gone.mp4, which is not there",
        "null": "is a pipe, a socket or a device",
        "pipe": "is a pipe, a socket or a device",
        "large": "is a Git LFS pointer .* git lfs pull",
    }.items():
        assert re.search(text, faults.pop(name))
    assert not faults


def test_one_rule_for_labels_and_splits():
    clips = [Source(str(i), Path("a"), label) for i, label in enumerate(["Happy", "happy ", "HAPPY", "Bored", "bored"])]
    decomposed = unicodedata.normalize("NFD", "Café")
    clips += [Source("n", Path("a"), decomposed), Source("m", Path("a"), "Café")]
    clips += [Source(f"s{split}", Path("a"), split=split) for split in ("Train", "train", "Training", " VAL")]
    found = check_clips("here", clips)
    assert {clip.label for clip in found} == {"happy", "Bored", "Café", ""}
    assert {clip.split for clip in found} == {"train", "Training", "val", "all"}
    assert found.notes == [
        "The labels 'Bored', 'bored' are read as one, 'Bored'.",
        f"The labels {decomposed!r}, 'Café' are read as one, 'Café'.",
        "The labels 'HAPPY', 'Happy', 'happy ' are read as one, 'happy'.",
        "The splits 'Train', 'train' are read as one, 'train'.",
        "The splits 'Training' and 'train' are similar and are kept separate. If they mean the same, rename one.",
    ]
    assert check_clips("here", found).notes == found.notes  # said once


@pytest.mark.parametrize(
    ("one", "two", "alike"),
    [
        ("happiness", "happy", True),
        ("anger", "angry", True),
        ("sad", "sadness", True),
        ("suprise", "surprise", True),
        ("very-happy", "very_happy", True),
        ("class 1", "class 2", False),
        ("positive", "negative", False),
        ("male", "female", False),
        ("fear", "sad", False),
    ],
)
def test_labels_that_are_alike_are_noted(one, two, alike):
    found = check_clips("here", [Source("a", Path("a"), one), Source("b", Path("a"), two)])
    assert {clip.label for clip in found} == {one, two}
    assert found.notes == (
        [f"The labels {one!r} and {two!r} are similar and are kept separate. If they mean the same, rename one."]
        if alike
        else []
    )


@pytest.mark.parametrize("name", ["Train", "TEST", "val "])
def test_a_folder_of_a_split_without_classes_is_no_class(tmp_path, name):
    make(tmp_path, f"{name}/a.mp4", f"{name}/b.avi")
    assert {(clip.label, clip.split) for clip in folder(tmp_path)} == {("", name.strip().lower())}


def test_folders_of_one_class_or_split_in_two_cases(tmp_path):
    make(tmp_path, "Train/Happy/a.mp4", "train/happy/b.mp4", "Test/HAPPY/c.mp4")
    clips = checked("folder", tmp_path)
    assert {(clip.label, clip.split) for clip in clips} == {("happy", "train"), ("happy", "test")}
    assert clips.notes == [
        "The labels 'HAPPY', 'Happy', 'happy' are read as one, 'happy'.",
        "The splits 'Train', 'train' are read as one, 'train'.",
    ]


def test_afew_in_other_cases_and_folders_of_no_class(tmp_path):
    make(tmp_path, "train_afew/angry/1.mp4", "Val_AFEW/HAPPY/2.mp4", "Val_AFEW/Hapy/3.mp4", "Val_AFEW_2017/Sad/4.mp4")
    clips = checked("afew", tmp_path)
    assert sorted(rows(clips)) == [("train/1", "angry", "", "train"), ("val/2", "happy", "", "val")]
    text = "\n".join(clips.left_out)
    assert "Val_AFEW/Hapy is not one of AFEW's classes" in text and "Val_AFEW_2017/Sad: 1 video" in text


def test_afew_videos_of_one_id_in_two_classes_are_both_left_out(tmp_path):
    make(tmp_path, "Train_AFEW/Angry/1.avi", "Train_AFEW/Sad/1.avi", "Train_AFEW/Sad/2.avi")
    clips = checked("afew", tmp_path)
    assert [clip.key for clip in clips] == ["train/2"]
    assert "different labels, subjects or splits. None is used" in clips.left_out[0]


def test_afew_faces_name_what_is_no_frame_and_who_has_no_label(tmp_path):
    faces = "Train_AFEW/AlignedFaces_LBPTOP_Points/Faces"
    make(tmp_path, "Train_AFEW/Angry/1.avi", *(f"{faces}/1/{i}.jpg" for i in range(12)), f"{faces}/1/cover.jpg")
    make(tmp_path, f"{faces}/2/0.jpg")
    clips = checked("afew_faces", tmp_path)
    assert [clip.key for clip in clips] == ["train/1"]
    assert clips.notes == [f"{tmp_path / faces / '1'}: 1 image left out (no frame of a video): cover.jpg."]
    assert re.search(r"Faces/2 has no label", clips.left_out[0]) and len(clips.left_out) == 1


def test_crema_d_clip_without_votes_is_named(tmp_path):
    write(
        make(tmp_path, *CREMA_D_VIDEOS, "VideoFlash/notes.mp4"), **{"summaryTable.csv": SUMMARY.replace("1002", "1003")}
    )
    clips = checked("crema_d", tmp_path)
    assert [clip.votes for clip in clips] == [{"angry": 0.5, "disgust": 0.5}, None]
    assert [clip.problem for clip in clips] == [
        "",
        f"{tmp_path / 'summaryTable.csv'} has no votes for 1002_DFA_HAP_XX.",
    ]
    assert "notes.mp4" in clips.left_out[0]


def test_csv_header_and_blank_rows(tmp_path):
    text = "Label, Path ,SPLIT\nhappy,a.mp4,Train\n,,\n\nsad,b.mp4,train,,\n,,,,,\n"
    clips = checked("csv", written(tmp_path, text))
    assert rows(clips) == [("a", "happy", "", "train"), ("b", "sad", "", "train")]
    with pytest.raises(InputError, match="expected the columns path, .* Received: 'path, label, Label'"):
        csv_list(written(tmp_path, "path,label,Label\na.mp4,happy,sad\n"))


@pytest.mark.parametrize(
    ("listed", "there"),
    [
        (unicodedata.normalize("NFC", "Jörg.mp4"), unicodedata.normalize("NFD", "Jörg.mp4")),
        (unicodedata.normalize("NFD", "é/Jörg.mp4"), unicodedata.normalize("NFC", "é/Jörg.mp4")),
        ("clips\\a.mp4", "clips/a.mp4"),
        (".\\clips\\ö.mp4", unicodedata.normalize("NFD", "clips/ö.mp4")),
    ],
)
def test_csv_paths_of_other_systems_are_found(tmp_path, listed, there):
    make(tmp_path, there)
    (clip,) = csv_list(written(tmp_path, f"path\n{listed}\n"))
    assert clip.path.samefile(tmp_path / there) and not clip.problem


def test_csv_name_that_is_much_alike_is_named(tmp_path):
    make(tmp_path, "Clips/A.mp4", "b.mp4")
    clips = csv_list(written(tmp_path, "path\nclips/a.MP4\nb.mp4\nc.mp4\n"))
    assert [clip.problem for clip in clips][1:] == ["", ""]
    assert clips[0].problem.endswith(f"is not there, and {tmp_path / 'Clips/A.mp4'} has a similar name.")


def test_csv_two_suffixes_are_two_clips(tmp_path):
    text = "path,label,start_s\np1.cam.mp4,happy,\np1.cam.avi,sad,\nq.mp4,sad,1\nq.avi,sad,1\n"
    clips = checked("csv", written(tmp_path, text))
    assert [clip.key for clip in clips] == ["p1.cam.mp4", "p1.cam.avi", "q.mp4@1-end", "q.avi@1-end"]


def test_recola_own_tree_with_and_without_splits(tmp_path):
    text = "time;FM1 ;FM2 ;FF1\n0.00;0;1;0\n0.04;1;2;2\n0.08;2;3;4\n"
    for name in ("P16", "P17", "P21"):
        ratings = {f"RECOLA-Annotation/emotional_behaviour/{each}/{name}.csv": text for each in ("arousal", "valence")}
        write(make(tmp_path, f"RECOLA-Video-recordings/{name}.mp4"), **ratings)
    clips = checked("recola", tmp_path)
    assert {(clip.key, clip.subject, clip.split) for clip in clips} == {(n, n, "all") for n in ("P16", "P17", "P21")}
    assert clips[0].dimensions.arousal == pytest.approx((108 / 64 - 4 / 3, 108 / 64, 108 / 64 + 4 / 3))
    assert clips[0].path == tmp_path / "RECOLA-Video-recordings/P16.mp4"
    assert "The split of P16, P17, P21 is unknown" in clips.notes[0]
    write(tmp_path, **{"splits.csv": "split,Name\nTrain,P16\ndev,p17\n,\ntest,P99\n"})
    clips = checked("recola", tmp_path)
    assert [(clip.key, clip.split) for clip in clips] == [("P16", "train"), ("P17", "val"), ("P21", "all")]
    assert (
        "names recordings that do not exist: P99" in clips.notes[0] and "The split of P21 is unknown" in clips.notes[1]
    )
    write(tmp_path, **{"splits.csv": "name,split\nP16,training\nP17,dev\nP17,test\nP21\ntrain_1,dev\n"})
    clips = checked("recola", tmp_path)
    assert [(clip.key, clip.split) for clip in clips] == [("P16", "all"), ("P17", "val"), ("P21", "all")]
    assert [line.removeprefix(f"{tmp_path / 'splits.csv'}, line ")[:22] for line in clips.left_out] == [
        "2: expected a recordin",
        "4: expected a recordin",
        "5: expected 2 fields.",
        "6: the name train_1 me",
    ]


@pytest.mark.parametrize(
    ("files", "key", "problem"),
    [
        ({"dev_3.mp4": ""}, "dev_3", "dev_3 has no ratings of arousal"),
        ({GOLD.format("valence", "dev_1"): arff(0, 1).replace("train", "dev")}, "dev_1", "has no ratings of arousal"),
        (
            {GOLD.format(each, "dev_1"): arff(0, 1) for each in ("arousal", "valence")},
            "dev_1",
            "line 9: expected a row of dev_1. Received: 'train_1'",
        ),
    ],
)
def test_recording_that_is_not_whole_does_not_cost_the_others(tmp_path, files, key, problem):
    write(tmp_path, **RECOLA, **files)
    clips = {clip.key: clip for clip in checked("recola", tmp_path)}
    assert clips.keys() == {"train_1", key}
    assert problem in clips[key].problem and clips[key].dimensions is None
    assert not clips["train_1"].problem


def test_times_that_are_equal_to_a_microsecond_are_equal(tmp_path):
    write(tmp_path, **RECOLA | {GOLD.format("valence", "train_1"): arff(0.5, 0).replace(",0.04,", ",0.0400000000001,")})
    assert len(recola(tmp_path)[0].dimensions.times_s) == 2
    write(tmp_path, **{GOLD.format("valence", "train_1"): arff(0.5, 0).replace(",0.04,", ",0.04001,")})
    with pytest.raises(InputError, match="are rated at different times"):
        recola(tmp_path)


def test_sewa_recording_that_is_not_whole_does_not_cost_the_others(tmp_path):
    good(tmp_path, "sewa")
    write(make(tmp_path, "video/Devel_01.avi", "video/Devel_02.avi"), **{"labels/Devel_02.csv": "Train_01;0;0;0;0\n"})
    problems = {clip.key: clip.problem for clip in checked("sewa", tmp_path)}
    assert problems["Train_01"] == ""
    assert "Devel_01 has no ratings" in problems["Devel_01"] and "a row of Devel_02" in problems["Devel_02"]


def test_lists_of_clips_need_one_that_can_be_used():
    clips = Clips([Source("a", Path("a"), problem="a is odd.")])
    clips.left_out.append("b is odd.")
    with pytest.raises(InputError, match=r"^a is odd\. 1 more cannot be used\.$"):
        clips.require("none")
    with pytest.raises(InputError, match="^none$"):
        Clips().require("none")


def test_csv_with_an_index_and_blank_rows_before_the_header(tmp_path):
    text = ",,\n\n,path,label\n0,a.mp4,happy\n,,\n1,b.mp4,sad\n2,,\n"
    clips = checked("csv", written(tmp_path, text))
    assert rows(clips) == [("a", "happy", "", "all"), ("b", "sad", "", "all")]
    assert rows(checked("csv", written(tmp_path, "Unnamed: 0,label,path\n0,sad,a.mp4\n"))) == [("a", "sad", "", "all")]
    clips = checked("csv", written(tmp_path, "path,label,\nb.mp4,sad,\na,c.mp4,happy\n"))
    assert [clip.key for clip in clips] == ["b"] and "more fields than the header" in clips.left_out[0]


def test_one_file_under_two_names_is_noted(tmp_path):
    make(tmp_path, "sub/a.mp4", unicodedata.normalize("NFD", "é.mp4"))
    text = "path,label\nsub/a.mp4,sad\nsub/../sub/a.mp4,happy\né.mp4,sad\n"
    clips = checked("csv", written(tmp_path, text + unicodedata.normalize("NFD", "é.mp4,sad\n")))
    assert [clip.key for clip in clips] == ["sub/a", "sub/../sub/a", "é"]
    assert f"{tmp_path}/list.csv: sub/a, sub/../sub/a are one file, {tmp_path}/sub/a.mp4." in clips.notes
    clips = checked("csv", written(tmp_path, text + unicodedata.normalize("NFD", "é.mp4,happy\n")))
    assert "two videos have the same key: é, and different labels" in clips.left_out[0]


def test_csv_rows_with_a_fault_do_not_cost_the_others(tmp_path):
    text = "path,label,start_s,end_s,split\na.mp4,happy,0,1,train\n,sad,,,\nb.mp4,sad,3,2,\nc.mp4,sad,soon,,\n"
    path = written(tmp_path, text + "d.mp4,sad,,,../x\ne,f.mp4,sad,0,1,train\ng.mp4,sad,,,train\n")
    clips = checked("csv", path)
    assert [clip.key for clip in clips] == ["a@0-1", "g"]
    assert [line.removeprefix(f"{path}, line ")[:20] for line in clips.left_out] == [
        "3: the path names no",
        "4: end_s must be aft",
        "5: start_s must be s",
        "6: the split must be",
        "7: more fields than ",
    ]


@pytest.mark.parametrize(
    ("name", "alike"),
    [("dev", "val"), ("Validation", "val"), ("eval", "val"), ("Testing", "test"), ("holdout", "test")],
)
def test_other_names_of_splits_are_noted(tmp_path, name, alike):
    (note,) = check_clips("here", [Source("a", Path("a"), split=name)]).notes
    assert f"{name!r}" in note and f"{alike!r}" in note
    make(tmp_path, f"{name}/a.mp4", f"{name}/b.mp4")
    (note,) = checked("folder", tmp_path).notes
    assert note == f"The label {name!r} looks like the split {alike!r}. Its clips are in the split 'all'."


def test_loose_videos_beside_classes_are_named(tmp_path):
    make(tmp_path, "train/happy/a.mp4", "notes.mp4", "test/b.mp4")
    clips = checked("folder", tmp_path)
    assert {clip.key: clip.problem for clip in clips} == {
        "test/b": "",
        "train/happy/a": "",
        "notes": f"{tmp_path}/notes.mp4 is beside the folders of classes, so it has no label.",
    }


@pytest.mark.parametrize("name", FOLDERS)
def test_links_are_followed_once(tmp_path, name):
    root = tmp_path / "set"
    key = good(tmp_path / "elsewhere", name)
    root.mkdir()
    for path in (tmp_path / "elsewhere").iterdir():
        (root / path.name).symlink_to(path, target_is_directory=True)
    (tmp_path / "elsewhere" / "more").mkdir()
    (root / "more").symlink_to(tmp_path / "elsewhere" / "more")
    (tmp_path / "elsewhere" / "more" / "loop").symlink_to(root)
    clips = checked(name, root)
    assert [(clip.key, clip.problem) for clip in clips] == [(key, "")]
    assert clips.left_out == []


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_may_not_be_read_is_named(tmp_path, name, monkeypatch):
    key = good(tmp_path, name)
    make(tmp_path, "lost+found/a.mp4")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "lost+found")  # root may read all
    clips = checked(name, tmp_path)
    assert [clip.key for clip in clips] == [key]
    assert clips.left_out == [f"{tmp_path / 'lost+found'} is a folder that may not be read."]


@pytest.mark.parametrize(
    "name", ["a.mp4.icloud", ".a.mp4.icloud", "a.mp4.zip", "a.avi.gz", "a.mov.lnk", "a.mp4.part", "a.264", "a.m2p"]
)
def test_videos_that_are_packed_or_elsewhere_are_named(tmp_path, name):
    assert looks_like_video(make(tmp_path, name) / name)


def test_pictures_that_move_are_videos_and_others_are_not(tmp_path):
    for name, chunk in (("moves.webp", b"ANIM"), ("still.webp", b"VP8 ")):
        (tmp_path / name).write_bytes(b"RIFF1234WEBPVP8X" + bytes(14) + chunk)
    assert [looks_like_video(tmp_path / name) for name in ("moves.webp", "still.webp")] == [True, False]


def test_recola_second_files_of_ratings_are_named(tmp_path):
    write(tmp_path, **RECOLA, **{f"old/{name}": text for name, text in RECOLA.items()})
    clips = checked("recola", tmp_path)
    assert len(clips.left_out) == 2 and all("train_1 has two files of" in line for line in clips.left_out)
    (tmp_path / "Splits.csv").symlink_to("gone.csv")
    with pytest.raises(InputError, match="is a link to gone.csv, which is not there"):
        recola(tmp_path)


def test_ratings_with_suffixes_and_folders_in_other_cases(tmp_path):
    write(tmp_path / "r", **{name.upper().replace("TRAIN", "Train"): text for name, text in RECOLA.items()})
    assert [(clip.key, clip.problem) for clip in recola(tmp_path / "r")] == [("train_1", "")]
    write(tmp_path / "s", **{"AVEC/LABELS/train_01.CSV": "Train_01;0;0.5;-0.5;0\n"})
    assert [(clip.key, clip.problem) for clip in sewa(tmp_path / "s")] == [("Train_01", "")]


def test_recola_columns_that_are_no_raters_are_noted(tmp_path):
    text = "time;FM1;FF1;mean;confidence\n0;0;1;9;9\n0.04;1;2;9;9\n"
    write(
        tmp_path, **{f"ratings_individual/{each}/dev_{i}.csv": text for each in ("arousal", "valence") for i in (1, 2)}
    )
    clips = checked("recola", tmp_path)
    assert [clip.dimensions.arousal for clip in clips] == [(0.5, 1.5)] * 2
    assert clips.notes == [
        f"{tmp_path}/ratings_individual/{each}: columns left out, because they are no raters: mean, confidence."
        for each in ("arousal", "valence")
    ]


def test_afew_faces_in_two_places_are_named(tmp_path):
    make(tmp_path, "Train_AFEW/Angry/1.avi", "Train_AFEW/AlignedFaces_LBPTOP_Points/Faces/1/0.jpg")
    make(tmp_path, "AlignedFaces_LBPTOP_Points/Faces/1/0.jpg")
    clips = checked("afew_faces", tmp_path)
    assert [clip.path for clip in clips] == [tmp_path / "AlignedFaces_LBPTOP_Points/Faces/1"]
    assert clips.left_out == [
        f"Two folders belong to 1: {clips[0].path} is used, and not "
        f"{tmp_path}/Train_AFEW/AlignedFaces_LBPTOP_Points/Faces/1."
    ]


# Of ../shared/data/failing/sets: folder → data set, keys, labels, and the first arousal and valence.
WRONGLY_READ = {
    "r_order_swapped": ("recola", ["train_1"], [""], (0.1, 0.1)),
    "r_quoted_attr": ("recola", ["train_1"], [""], (0.1, -0.2)),
    "r_float_times": ("recola", ["train_1"], [""], (0.1, -0.2)),
    "i_mean_column": ("recola", ["train_1"], [""], (0.2589, 0.2589)),
    "i_time_last": ("recola", ["train_1"], [""], (0.1010, 0.1010)),
    "i_original": ("recola", ["P16"], [""], (0.2589, 0.2589)),
    "i_P16": ("recola", ["P16"], [""], (0.2589, 0.2589)),
    "a_val_typo": ("afew", ["train/1"], ["angry"], None),
    "a_lower": ("afew", ["train/1", "val/2"], ["angry", "happy"], None),
    "c_missing": ("crema_d", ["1001_DFA_ANG_XX", "1001_IEO_SAD_LO"], ["angry", "sad"], None),
    "c_lfs_video": ("crema_d", ["1001_DFA_ANG_XX", "1001_IEO_SAD_LO"], ["angry", "sad"], None),
    "c_two_ext": ("crema_d", ["1001_DFA_ANG_XX"], ["angry"], None),
    "f_frame_n": ("afew_faces", ["train/000046280"], ["happy"], None),
    "f_mixed": ("afew_faces", ["train/000046280"], ["happy"], None),
}


def test_data_sets_that_were_read_wrongly(shared_data):
    sets = shared_data / "failing" / "sets"
    for folder_name, (name, keys, labels, rated) in WRONGLY_READ.items():
        clips = checked(name, sets / folder_name)
        assert ([clip.key for clip in clips], [clip.label for clip in clips]) == (keys, labels), folder_name
        if rated:
            found = clips[0].dimensions
            assert (found.arousal[0], found.valence[0]) == pytest.approx(rated, abs=1e-4), folder_name
            assert found.times_s == pytest.approx(np.arange(50) / 25), folder_name
    for folder_name, name, expected in (
        ("r_other_name_rows", "recola", "line 9: expected a row of train_1. Received: 'train_2'"),
        ("s_noname", "sewa", "there is no column name"),
    ):
        with pytest.raises(InputError, match=expected):
            checked(name, sets / folder_name)
    assert [clip.problem[-17:] for clip in checked("crema_d", sets / "c_missing")] == ["", " 1001_IEO_SAD_LO."]
    for folder_name, strays, names in (("f_frame_n", [], "frame_{}.jpg"), ("f_mixed", ["cover.jpg"], "{}.jpg")):
        (clip,) = checked("afew_faces", sets / folder_name)
        assert [path.name for _, path in list_images(clip.path)] == [names.format(number) for number in range(12)]
        assert [path.name for path in stray_images(clip.path)] == strays


def test_lists_and_folders_that_were_read_wrongly(shared_data):
    failing = shared_data / "failing"
    assert [clip.path.name for clip in checked("folder", failing / "f_mts")] == [
        *("a.mp4", "b.MTS", "c.3gp", "d.ogv", "e.MP4", "f.ts")
    ]
    for name, notes in {
        "csv_label_case": ["The labels 'Happy', 'happy' are read as one, 'happy'."],
        "csv_split_case": ["The splits 'Train', 'train' are read as one, 'train'."],
        "csv_empty_lines": [],
        "csv_nfd": [],
        "csv_two_suffixes": [],
    }.items():
        clips = checked("csv", failing / name / "l.csv")
        assert (len(clips), clips.notes, clips.left_out) == (2, notes, []), name
        assert len({clip.key for clip in clips}) == 2 and all(clip.path.is_file() for clip in clips), name
