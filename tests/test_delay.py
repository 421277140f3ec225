"""The search for the delay of ratings, on faces whose grey is a curve and whose ratings follow it late."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from affect.config import Data, Windows
from affect.data.clips import Dimensions
from affect.data.windows import read_recordings
from affect.errors import InputError
from affect.tasks.delay import search_delay
from tests.clips import make_clip, textured, write_shards

SETTINGS = Windows(length_s=4.0, frame_rate_hz=5.0)
DATA = Data(batch_clips=2, crop_ratio=1.0)
DELAY_S = 1.4


def curve(person, times_s):
    return 0.4 * np.sin(0.9 * times_s + person) + 0.4 * np.sin(1.7 * times_s + 2 * person)


def record(person, subject):
    """Faces whose left half follows a curve, that of valence, and whose right half another, about the person's level.

    A face is missing; ratings are `DELAY_S` late.
    """
    clip = make_clip(person, 100, key=f"recording {person}", label="", subject=subject)
    faces = []
    for index, face in enumerate(clip.faces):
        halves = [90 + 20 * person + 50 * curve(person + offset, index / 5) for offset in (0, 5)]
        grey = np.rint(np.repeat(halves, 8)[None, :, None] * np.ones((16, 1, 3))).astype(np.uint8)
        faces.append(replace(face, jpeg=tf.io.encode_jpeg(grey).numpy(), timestamp_s=index / 5))
    rated_s = np.arange(201) / 10
    valence, arousal = (tuple(curve(person + offset, rated_s - DELAY_S)) for offset in (0, 5))
    return replace(clip, faces=tuple(faces[:30] + faces[31:]), dimensions=Dimensions(tuple(rated_s), valence, arousal))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    clips = [record(person, f"person {person}") for person in range(4)]
    return read_recordings(write_shards(tmp_path_factory.mktemp("delay"), classes=(), train=[clips]), "train")[0]


def test_finds_the_delay_among_all_steps_of_the_ratings_up_to_6_s(recordings):
    delay_s, scores = search_delay(recordings, replace(SETTINGS, delay_s=None), DATA)
    np.testing.assert_allclose([*scores], np.arange(61) / 10)
    assert delay_s == pytest.approx(DELAY_S, abs=0.1)
    assert scores[delay_s] > 0.9 > scores[0.0] + 0.2


def test_one_person_says_nothing_of_another(tmp_path):
    """Noise for faces: a probe that had seen the person it is judged on would know its ratings."""
    clips = [record(person, f"person {person}") for person in range(4)]
    for place, clip in enumerate(clips):
        faces = tuple(replace(face, jpeg=textured(100 * place + index)) for index, face in enumerate(clip.faces))
        clips[place] = replace(clip, faces=faces)
    recordings, _ = read_recordings(write_shards(tmp_path, classes=(), train=[clips]), "train")
    _, scores = search_delay(recordings, SETTINGS, DATA, [0.0, 0.6, DELAY_S])
    assert max(np.abs([*scores.values()])) < 0.2


def test_what_cannot_be_searched_is_refused(recordings):
    with pytest.raises(InputError, match="expected recordings of two or more. Received: 1 of 1"):
        search_delay(recordings[:1], SETTINGS, DATA)
    with pytest.raises(InputError, match="at each delay from 0.0 to 30.0 s"):
        search_delay(recordings, SETTINGS, DATA, [0.0, 30.0])
    twins = [replace(recording, subject="one") for recording in recordings]
    with pytest.raises(InputError, match="Received: 4 of 1"):
        search_delay(twins, SETTINGS, DATA)
