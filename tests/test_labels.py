"""Class sets: one order, whatever the order in which the clips were found."""

from hypothesis import given
from hypothesis import strategies as st

from affect.data.labels import AFEW, EMOTIONS, FER2013, order_classes

NAMES = st.lists(st.sampled_from(EMOTIONS) | st.text(max_size=5))


def test_emotions_stand_first_in_the_order_of_afew_and_others_after_them():
    found = ["zorn", "surprise", "angry", "", "ängstlich", "happy", "angry", "Angry", "contempt"]
    assert order_classes(found) == ("angry", "happy", "surprise", "Angry", "contempt", "zorn", "ängstlich")


def test_a_class_set_of_one_or_none():
    assert order_classes(["sad", "sad"]) == ("sad",)
    assert order_classes([]) == order_classes([""]) == ()


@given(NAMES, st.randoms())
def test_the_order_of_the_clips_does_not_matter(names, random):
    shuffled = list(names)
    random.shuffle(shuffled)
    assert order_classes(shuffled) == order_classes(names) == order_classes(names + shuffled)
    assert order_classes(name for name in shuffled) == order_classes(names)


@given(NAMES)
def test_every_name_stands_once_and_emotions_come_first(names):
    ordered = order_classes(names)
    assert len(ordered) == len(set(ordered))
    assert set(ordered) == set(names) - {""}
    known = [name for name in EMOTIONS if name in names]
    assert list(ordered[: len(known)]) == known
    assert list(ordered[len(known) :]) == sorted(ordered[len(known) :])
    assert order_classes(ordered) == ordered


def test_fer2013_and_afew_have_the_same_seven_emotions():
    assert EMOTIONS == ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    assert FER2013 == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    assert set(FER2013) == set(EMOTIONS)
    assert order_classes(FER2013) == EMOTIONS


def test_afews_folders_map_to_the_emotions_in_their_order():
    assert list(AFEW) == ["Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"]
    assert tuple(AFEW.values()) == EMOTIONS
