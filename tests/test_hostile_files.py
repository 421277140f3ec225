"""Mutated files of others: each is read, or refused with one line. Seeded, so that a failure comes back."""

import random
import re
import shutil

import cv2
import numpy as np
import pytest
import tensorflow as tf

from affect.config import Data, Faces
from affect.data.batches import eval_batches, names_damage
from affect.data.shards import Shards
from affect.errors import InputError
from affect.pipelines.aligned import read_clip
from affect.pipelines.datasets.crema_d import crema_d
from affect.pipelines.datasets.csv_list import csv_list
from affect.pipelines.datasets.recola import recola
from affect.pipelines.datasets.sewa import sewa
from affect.pipelines.datasets.source import check_clips
from affect.pipelines.detectors.boxes import Boxes
from affect.pipelines.images import read_image
from tests.mutations import mutate, survive
from tests.pictures import portrait

FEW, MANY = 40, 1000
ARFF = "@relation GOLDSTANDARD\n\n@attribute name string\n@attribute frameTime numeric\n@attribute value numeric\n"
ARFF += "@data\n"
ARFF += "".join(f"dev_1,{index * 0.04:g},{(-1) ** index * index / 100}\n" for index in range(20))
RATERS = "time;a;b;c\n" + "".join(f"{index * 0.04:g};{index / 50};{index / 40};{index / 60}\n" for index in range(20))
SEWA = "".join(f"Train_01;{index / 10};{index / 20};0.5;-1\n" for index in range(20))
TABULATED = '"","A","D","F","H","N","S","fileName"\n' + "".join(
    f'"20000{index}",1,{index},3,0,0,2,"100{index}_DFA_ANG_XX"\n' for index in range(1, 9)
)
SUMMARY = '"","FileName","FaceVote","FaceLevel"\n'
SUMMARY += "".join(f'"{i}","100{i}_DFA_ANG_XX","A:D","51.{i}:40.25"\n' for i in range(1, 9))
CREMA_D = [f"100{index}_DFA_ANG_XX.flv" for index in range(1, 9)]
LIST = "path,label,subject,split,start_s,end_s\n" + "".join(
    f"clips/{index}.mp4,sad,s{index},train,{index},{index + 1}\n" for index in range(10)
)
BOXES = "key,timestamp_s,x0,y0,x1,y1,score\n" + "".join(f"a,{index / 25},1,2,30,40,0.95\n" for index in range(20))


def folder_of(reader, name, *others):
    """A case: the reader of a folder that holds one mutated file, and empty ones."""

    def read(path):
        for other in others:
            (path.parents[name.count("/")] / other).touch()
        return check_clips(path, reader(path.parents[name.count("/")]))

    return name, read


CASES = {
    "arff": (ARFF, *folder_of(recola, "ratings_gold_standard/arousal/dev_1.arff")),
    "raters": (RATERS, *folder_of(recola, "ratings_individual/valence/dev_1.csv")),
    "sewa": (SEWA, *folder_of(sewa, "labels/Train_01.csv")),
    "tabulated": (
        TABULATED,
        *folder_of(crema_d, "tabulatedVotes.csv", *CREMA_D),
    ),
    "summary": (SUMMARY, *folder_of(crema_d, "summaryTable.csv", *CREMA_D)),
    "list": (LIST, "list.csv", lambda path: check_clips(path, csv_list(path))),
    "boxes": (BOXES, "boxes.csv", lambda path: Boxes(Faces(detector="boxes", boxes=str(path))).detect_at("a", [0.04])),
}


def prepared(tmp_path, case):
    text, name, read = CASES[case]
    for dimension in ("arousal", "valence") if case in ("arff", "raters") else ():
        other = tmp_path / "ratings_gold_standard" / dimension / "dev_1.arff"
        other.parent.mkdir(parents=True)
        if not (case == "raters" and dimension == "valence"):
            other.write_text(ARFF)
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    assert read(path)
    return text.encode(), path, read


@pytest.mark.parametrize("case", CASES)
def test_mutated_tables_are_read_or_refused(tmp_path, case):
    content, path, read = prepared(tmp_path, case)
    good, refused = survive(read, content, path, FEW, seed=0)
    assert good
    assert refused


@pytest.mark.large
@pytest.mark.parametrize("case", CASES)
def test_a_thousand_mutated_tables_are_read_or_refused(tmp_path, case):
    content, path, read = prepared(tmp_path, case)
    survive(read, content, path, MANY, seed=1)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.large)])
def test_mutated_images_are_read_or_refused(tmp_path, suffix, count):
    _, content = cv2.imencode(suffix, portrait(size=96))
    path = tmp_path / f"0{suffix}"

    def read(path):
        assert read_image(path).shape[2] == 3

    good, refused = survive(read, content.tobytes(), path, count, seed=count)
    assert refused
    assert good or suffix == ".png"  # PNG has checksums
    clip, problem = read_clip(tmp_path, Faces(face_size=32), key="a")
    assert bool(problem) == (not clip.faces)


@pytest.mark.parametrize("count", [FEW // 2, pytest.param(MANY // 5, marks=pytest.mark.large)])
def test_mutated_shards_are_named(shards, tmp_path, count):
    folder = tmp_path / "shards"
    shutil.copytree(shards, folder)
    path = folder / next(shard["name"] for shard in Shards(folder).shards if shard["split"] == "test")
    content, rng = path.read_bytes(), random.Random(count)

    @names_damage
    def read(*, data):
        batches = eval_batches(Shards(data), Data(), split="test", classes=("happy", "sad"), face_size=32)
        return [key for batch in batches for key in batch["key"].numpy()]

    assert len(read(data=folder)) == 4
    for _ in range(count):
        damaged = mutate(content, rng)
        path.write_bytes(damaged)
        if damaged == content:
            continue
        with pytest.raises(InputError, match=re.escape(path.name)):
            read(data=folder)


def test_a_damaged_shard_is_named_by_its_sha256(shards, tmp_path):
    folder = tmp_path / "shards"
    shutil.copytree(shards, folder)
    assert Shards(folder).find_damaged() == []
    name = Shards(folder).shards[0]["name"]
    content = np.frombuffer((folder / name).read_bytes(), np.uint8).copy()
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content.tobytes())
    assert Shards(folder).find_damaged() == [name]

    @names_damage
    def read(data):
        return [*tf.data.TFRecordDataset(str(data / name))]

    with pytest.raises(
        InputError, match=f"^{re.escape(str(folder))} is damaged: {name}. Copy it again, or run the same"
    ):
        read(folder)
