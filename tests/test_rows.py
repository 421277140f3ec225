"""The columns and rows of the tables, smoothing and baseline."""

import csv
import io
import re

import numpy as np
import pytest

from affect.errors import InputError
from affect.reading import rows
from affect.reading.rows import Adjustment, is_within, open_writer
from affect.tasks.task import Curves
from tests.documents import text_of

NAN = np.nan
SCHEMA = "affect/reading/README.md"


def curves(times_s, values, importance=None):
    values = np.array(values, float)
    seen = ~np.isnan(values).any(axis=1)
    places = np.where(seen, np.cumsum(seen) - 1, -1)
    boxes = np.where(seen[:, None], np.arange(4.0), NAN).astype(np.float32)
    scores = np.where(seen, 0.5, NAN).astype(np.float32)
    importance = np.where(seen, 1 / seen.sum(), NAN) if importance is None else np.array(importance, float)
    overall = np.nanmean(values, axis=0)
    return Curves(
        "happy", overall, int(seen.sum()), np.array(times_s, float), places, boxes, scores, importance, values
    )


def test_a_row_holds_what_is_known_and_nothing_else():
    found = list(rows.list_rows(curves([0, 0.5], [[0.25, 0.75], [NAN, NAN]]), 2))
    assert found == [
        (0, 0.0, 2, True, 0.0, 1.0, 2.0, 3.0, 0.5, 1.0, 0.25, 0.75),
        (1, 0.5, 2, False, *[None] * 8),
    ]
    columns = rows.frame_columns(["happy", "sad"])
    text = rows.format_row(columns, ("a.mp4", *found[1]))
    assert dict(zip(columns, text, strict=True)) | {"happy": ""} == dict.fromkeys(columns, "") | {
        "video": "a.mp4",
        "frame": "1",
        "timestamp_s": "0.500000",
        "face": "2",
        "has_face": "0",
    }


@pytest.mark.parametrize(
    ("heading", "columns"), [("frames.csv", rows.frame_columns([])), ("videos.csv", rows.video_columns([]))]
)
def test_the_document_lists_each_column(heading, columns):
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## )", text_of(SCHEMA), re.MULTILINE | re.DOTALL)
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    listed = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert set(columns) <= set(listed)
    assert set(listed) - set(columns) <= {"valence", "arousal", "CLASS_smooth", "CLASS_change", "subject", "condition"}
    known = [name for name in listed if name in columns]
    assert known == columns or (heading == "videos.csv" and sorted(known) == sorted(columns))


def test_numbers_have_six_digits():
    text = rows.format_row(["timestamp_s", "importance", "x0"], [3723.1234567, 1.23456789e-5, 1234.5678])
    assert text == ["3723.123457", "1.23457e-05", "1234.57"]


def test_a_class_with_the_name_of_a_column_gets_another_column():
    columns = rows.frame_columns(["score", "happy"], Adjustment(smooth_s=1.0))
    assert columns[-4:] == ["class_score", "happy", "class_score_smooth", "happy_smooth"]
    assert len(set(columns)) == len(columns)


@pytest.mark.parametrize(
    ("smoothing", "expected"),
    [
        ("centred", [1.5, 1.5, NAN, 5.5, 5.5]),  # from 1 s before to 1 s after; frame 2 has no face
        ("causal", [1.0, 1.5, NAN, 5.0, 5.5]),  # the last 2 s, without the frame exactly 2 s before
    ],
)
def test_a_moving_average_by_hand(smoothing, expected):
    times_s, values = np.arange(5.0), np.array([[1.0], [2.0], [NAN], [5.0], [6.0]])
    np.testing.assert_allclose(rows.smooth(times_s, values, 2.0, smoothing)[:, 0], expected)


def test_a_moving_average_counts_seconds_and_not_frames():
    times_s = np.array([0.0, 0.1, 0.2, 5.0])
    averaged = rows.smooth(times_s, np.array([[0.0], [3.0], [6.0], [9.0]]), 1.0)
    np.testing.assert_allclose(averaged[:, 0], [3, 3, 3, 9])


def test_a_constant_stays_constant_and_noise_falls():
    random = np.random.default_rng(0)
    times_s, noise = np.arange(2000) / 25, random.normal(0.5, 0.1, (2000, 2))
    np.testing.assert_allclose(rows.smooth(times_s, np.full((2000, 2), 0.3), 1.0), 0.3)
    inner = rows.smooth(times_s, noise, 1.0)[20:-20]
    assert inner.std() == pytest.approx(0.1 / np.sqrt(25), rel=0.2)  # the mean of 25 or 26 frames


def test_the_change_from_a_baseline_by_hand():
    values = np.array([[0.5, 0.5], [0.25, 0.75], [0.0, 1.0], [NAN, NAN]])
    (change,) = rows.adjust(np.arange(4.0), values, Adjustment(baseline_s=(0, 1)))
    base = np.log(values[:2]).mean(axis=0)
    np.testing.assert_allclose(change[1], np.log(values[1]) - base)
    np.testing.assert_allclose(change[2], [np.log(1e-6) - base[0], -base[1]])  # a probability of 0 stays finite
    assert np.isnan(change[3]).all()
    np.testing.assert_allclose(change[:2].mean(axis=0), 0, atol=1e-12)
    (plain,) = rows.adjust(np.arange(4.0), values, Adjustment(baseline_s=(0, 1)), has_classes=False)
    np.testing.assert_allclose(plain[2], [-0.375, 0.375])


def test_a_baseline_without_a_face_gives_no_change():
    (change,) = rows.adjust(np.arange(2.0), np.array([[NAN], [0.5]]), Adjustment(baseline_s=(0, 0.5)))
    assert np.isnan(change).all()


def test_the_change_is_smoothed_too():
    values = np.array([[0.2], [0.4], [0.8]])
    smooth, change = rows.adjust(np.arange(3.0), values, Adjustment(smooth_s=2.0, baseline_s=(0, 0.5)))
    np.testing.assert_allclose(smooth[:, 0], [0.3, 1.4 / 3, 0.6])
    logs = np.log(values[:, 0])
    np.testing.assert_allclose(change[1, 0], logs.mean() - logs[0])


def test_the_peak_is_the_most_important_frame_or_the_farthest_from_neutral():
    assert curves([0, 1, 2], [[0.5, 0.5]] * 3, [0.2, 0.5, 0.3]).peak_s == 1
    assert curves([0, 1, 2], [[0.1, 0.1], [-0.3, 0.0], [0.0, 0.9]], [NAN] * 3).peak_s == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"smooth_s": 0.0}, "above 0 s"),
        ({"smooth_s": -1.0}, "above 0 s"),
        ({"smoothing": "middle"}, r"Unknown smoothing\. Expected one of \['centred', 'causal'\]"),
        ({"baseline_s": (2.0, 1.0)}, "a later end. Received: 2-1"),
    ],
)
def test_adjustments_without_meaning_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Adjustment(**arguments)


def test_any_text_is_one_cell():
    cells = ["a\rb", "a\nb", "a\r\n", 'q"u,o', "=1+1", " x "]
    text = io.StringIO(newline="")
    open_writer(text).writerows([cells, cells])
    assert list(csv.reader(io.StringIO(text.getvalue(), newline=""))) == [cells, cells]
    assert text.getvalue().endswith(" x \n") and text.getvalue().count("\r") == 4


def test_a_baseline_of_times_from_the_table_holds_their_frames():
    times_s = np.array([1 / 3, 2 / 3, 1.0])
    assert is_within(times_s, 0.333333, 0.666667).tolist() == [True, True, False]
    assert is_within(times_s, 0.666667, 0.7).tolist() == [False, True, False]
