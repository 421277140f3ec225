"""Classification metrics: by hand, and against their definitions written out in NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect.metrics import classification_metrics

CLASSES = ("angry", "happy", "sad")


def reference(labels, predictions, classes):
    """The definitions, count by count."""
    labels, predictions = np.array(labels), np.array(predictions)
    confusion = np.zeros((len(classes), len(classes) + 1), int)
    for label, prediction in zip(labels, predictions, strict=True):
        confusion[label, prediction] += 1  # -1 is the last column
    recalls, scores = [], []
    for index in range(len(classes)):
        hits, row, column = confusion[index, index], confusion[index].sum(), confusion[:, index].sum()
        if row:
            recalls.append(hits / row)
            scores.append(2 * hits / (row + column))
    accuracy = np.trace(confusion) / len(labels)
    return accuracy, np.mean(recalls), np.mean(scores), confusion.tolist()


def test_by_hand():
    # angry: 2 of 3 right; happy: 1 of 2 right; sad: 0 of 1.
    found = classification_metrics([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 0], CLASSES)
    assert found["confusion"] == [[2, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 0]]
    assert found["clips"] == 6
    assert found["accuracy"] == pytest.approx(3 / 6)
    assert found["uar"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    # F1 = 2 hits / (labels + predictions): 4/6, 2/4, 0/2.
    assert found["macro_f1"] == pytest.approx((4 / 6 + 2 / 4 + 0) / 3)


def test_a_clip_without_a_prediction_is_wrong_and_stands_in_the_last_column():
    found = classification_metrics([0, 0, 1, 1], [0, -1, 1, -1], ("a", "b"))
    assert found["confusion"] == [[1, 0, 1], [0, 1, 1]]
    assert found["clips"] == 4
    assert found["accuracy"] == 0.5
    assert found["uar"] == 0.5
    assert found["macro_f1"] == pytest.approx(2 / 3)  # precision 1, recall 1/2


def test_the_last_class_is_not_taken_for_no_prediction():
    # As an index, -1 would be the last class.
    found = classification_metrics([2, 2], [-1, -1], CLASSES)
    assert found["confusion"] == [[0] * 4, [0] * 4, [0, 0, 0, 2]]
    assert found["accuracy"] == found["uar"] == found["macro_f1"] == 0


def test_classes_without_a_clip_are_left_out_of_the_means():
    found = classification_metrics([0, 0, 1, 1], [0, 0, 1, 2], CLASSES)
    assert found["uar"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["macro_f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["confusion"] == [[2, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_one_class():
    found = classification_metrics([0, 0, 0], [0, 0, -1], ("sad",))
    assert found["confusion"] == [[2, 1]]
    assert found["accuracy"] == found["uar"] == pytest.approx(2 / 3)
    assert found["macro_f1"] == pytest.approx(4 / 5)


def test_all_right():
    found = classification_metrics(np.array([2, 0, 1], np.int32), np.array([2, 0, 1], np.int64), CLASSES)
    assert found["accuracy"] == found["uar"] == found["macro_f1"] == 1
    assert found["confusion"] == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]


@pytest.mark.parametrize("empty", [[], np.array([]), np.array([], int)])
def test_no_clips(empty):
    found = classification_metrics(empty, empty, CLASSES)
    assert found["clips"] == 0
    assert all(found[name] is None for name in ("accuracy", "uar", "macro_f1"))
    assert found["confusion"] == [[0, 0, 0, 0]] * 3


def test_what_is_returned_can_be_written_as_json():
    found = classification_metrics(np.array([0, 1]), np.array([0, -1]), ("a", "b"))
    assert {type(value) for value in found.values()} == {int, float, list}
    assert {type(count) for row in found["confusion"] for count in row} == {int}


@given(st.integers(1, 8).flatmap(lambda e: st.tuples(st.just(e), pairs(e))))
def test_random_clips_against_the_definitions(drawn):
    number, clips = drawn
    labels, predictions = zip(*clips, strict=True)
    classes = [f"class {index}" for index in range(number)]
    found = classification_metrics(labels, predictions, classes)
    accuracy, uar, macro_f1, confusion = reference(labels, predictions, classes)
    assert found["confusion"] == confusion
    assert found["clips"] == len(clips)
    assert found["accuracy"] == pytest.approx(accuracy)
    assert found["uar"] == pytest.approx(uar)
    assert found["macro_f1"] == pytest.approx(macro_f1)


def pairs(number):
    return st.lists(st.tuples(st.integers(0, number - 1), st.integers(-1, number - 1)), min_size=1, max_size=40)
