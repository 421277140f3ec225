"""write_report(): the folder of a study → pages. What a browser makes of them is in test_report_browser.py."""

import base64
import csv
import json
import re
import sys

import numpy as np
import pytest

from affect.config import read_json, write_json
from affect.errors import InputError
from affect.report import write_overview, write_page, write_report
from affect.report.curves import FACE, NO_FACE, NOT_READ, colour_of, dash_of, draw_small, read_curves
from affect.report.groups import compute_groups
from affect.report.page import link_to, show_duration, show_number, show_share
from tests.studies import CLASSES, Film, write_study

HOSTILE = "<script>alert(1)</script> \"ü\" 'é' & </script 😀 100% #1?.mp4"
FILMS = [
    Film("a/one.mp4", groups={"subject": "s1", "condition": "film"}),
    Film("a/three people.mp4", people=3, groups={"subject": "s2", "condition": "film"}),
    Film("nobody.mp4", people=0, groups={"subject": "s2", "condition": "talk"}),
    Film("broken.mp4", problem="No frame could be decoded.", groups={"subject": "s1", "condition": "talk"}),
    Film(HOSTILE, groups={"subject": "<b>&", "condition": "talk"}),
]
HEADER = "frame,timestamp_s,face,has_face,importance,happy\n"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "out"
    folder.mkdir()
    write_study(folder, [Film(**{**vars(film), "is_film": False}) for film in FILMS])
    return folder


@pytest.fixture(scope="module")
def pages(study):
    """Name of a page → its text."""
    return {path.relative_to(study).as_posix(): path.read_text(encoding="utf-8") for path in write_report(study)}


def data_of(page):
    """Returns the numbers in a page of a video."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_there_is_a_page_of_the_study_and_one_for_each_video(pages, study):
    assert list(pages) == ["report.html", *(f"pages/{place:02d}.html" for place in range(len(FILMS)))]
    assert not list(study.rglob("tmp-*"))
    for video in read_json(study / "study.json")["videos"]:
        assert f'href="{video["page"]}"' in pages["report.html"]


def test_the_same_folder_gives_the_same_bytes(pages, study):
    before = {name: (study / name).read_bytes() for name in pages}
    write_report(study)
    assert {name: (study / name).read_bytes() for name in pages} == before


def test_pages_ask_for_nothing_outside_the_folder(pages):
    for page in pages.values():
        own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
        assert not re.findall(r"""(?:src|href|action|poster|url)\s*[=(]\s*["']?(?:https?:)?//""", own)
        assert '<link rel="stylesheet' not in own and "@import" not in own
        assert "connect-src 'none'" in own


def test_a_page_is_written_as_soon_as_its_video_was_read(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    found = write_study(folder, [Film("a.mp4", is_film=False), Film("b.mp4", is_film=False)])
    waiting = folder / "parts" / found["videos"][1]["sha256"] / "video.json"
    waiting.unlink()
    assert write_page(folder, found["videos"][0]) == folder / "pages" / "00.html"
    assert not (folder / "report.html").exists()
    text = write_overview(folder).read_text(encoding="utf-8")
    assert "not read yet" in text and 'href="pages/01.html"' not in text
    assert len(write_report(folder)) == 3


def test_names_are_shown_and_never_run(pages):
    page = pages["pages/04.html"]
    for text in (page, pages["report.html"]):
        assert "<script>alert" not in text and "<b>&" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt; &#34;ü&#34; &#39;é&#39; &amp; &lt;/script 😀 100% #1?.mp4" in text
    assert data_of(page)["name"] == HOSTILE
    assert 'src="../../films/%3Cscript%3Ealert%281%29%3C/script%3E%20%22%C3%BC%22' in page
    assert "%231%3F.mp4" in page


def test_a_model_card_is_text_and_fetches_nothing(pages, tmp_path):
    assert "<strong>nobody</strong>" in pages["report.html"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in pages["report.html"]
    folder = tmp_path / "out"
    folder.mkdir()
    found = write_study(folder, [])
    found["model"]["card"] = "![x](https://example.com/x.png) [y](javascript:alert(1)) <img src=x>"
    write_json(folder / "study.json", found)
    page = write_overview(folder).read_text(encoding="utf-8")
    assert "<img" not in page and 'href="javascript' not in page


def test_the_study_says_what_was_read_by_what(pages):
    page = pages["report.html"]
    for text in (
        "What made read in 5 videos",
        "MIT, of nobody",
        "The movement of a face is not a feeling",
        "Do not decide about a person",
        "a centred moving average of 0.5 s",
        "log p minus its mean",
        "No frame could be decoded.",
        "all people that were followed",
        "Means by condition",
        "Means by subject",
        "bootstrap over subjects",
    ):
        assert text in page, text
    body = page[page.index('<table class="cards" id="table">') :]
    body = body[: body.index("</table>")]
    assert body.count("<tr>") == 1 + 1 + 3 + 1 + 1 + 1
    assert body.count("<svg") == 5
    assert body.count("aria-sort") == body.count('<th scope="col"') == 17


def test_a_page_holds_the_numbers_of_frames_csv(pages, study):
    data = data_of(pages["pages/01.html"])
    assert [person["face"] for person in data["people"]] == [1, 2, 3]
    assert [name for name, _ in data["series"]] == ["", "_smooth", "_change"]
    part = study / "parts" / read_json(study / "study.json")["videos"][1]["sha256"]
    with (part / "frames.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["face"] == "2"]
    curve = data["people"][1]["columns"]["happy"]
    steps = np.frombuffer(base64.b64decode(curve["steps"]), "<u2")
    values = np.where(steps == 65535, np.nan, curve["low"] + (curve["high"] - curve["low"]) * steps / 65534)
    expected = np.array([float(row["happy"] or "nan") for row in rows])
    np.testing.assert_allclose(values, expected, atol=1e-5)
    seen = np.frombuffer(base64.b64decode(data["people"][1]["seen"]), np.uint8)
    assert [int(state == FACE) for state in seen] == [int(row["has_face"]) for row in rows]
    attention = data["people"][0]["shown"][1]["attention"]
    assert np.shape(attention) == (2, 4, 4) and np.max(attention, axis=(1, 2)).tolist() == [1, 1]
    assert data["people"][0]["shown"][0]["attention"] is None


def test_a_video_without_a_face_and_one_that_was_not_read_have_pages(pages):
    assert "No face was found in this video" in pages["pages/02.html"]
    assert "No frame could be decoded." in pages["pages/03.html"]
    assert all(
        'id="data"' not in pages[name] and len(pages[name]) < 50_000 for name in ("pages/02.html", "pages/03.html")
    )


def test_a_regression_has_valence_and_arousal_and_no_label(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    write_study(folder, [Film("a.mp4", is_film=False)], task="regression", columns=())
    overview, page = (path.read_text(encoding="utf-8") for path in write_report(folder))
    assert "how pleasant (valence)" in overview and "<button>Label" not in overview
    assert data_of(page)["classes"] == ["valence", "arousal"] and data_of(page)["low"] == -1
    assert "mean valence" in page and len(data_of(page)["series"]) == 1


def test_ten_minutes_stay_below_five_megabytes(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    write_study(folder, [Film("long.mp4", seconds=600, people=2, is_film=False)])
    overview, page = write_report(folder)
    assert page.stat().st_size < 5e6 and overview.stat().st_size < 1e5
    assert "is the mean of" not in page.read_text(encoding="utf-8")


def test_a_longer_video_has_fewer_points_and_says_so(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    write_study(folder, [Film("longer.mp4", seconds=900, rate=50, is_film=False)], task="regression", columns=())
    _, page = write_report(folder)
    text = page.read_text(encoding="utf-8")
    assert "The video has 45,000 frames. Each point of the curves is the mean of 4 frames." in text
    assert data_of(text)["frames_per_point"] == 4


def test_points_are_means_of_frames(tmp_path):
    path = tmp_path / "frames.csv"
    rows = [
        f"{frame},{frame / 10},1,{int(frame != 3)},{'' if frame == 3 else frame},{frame / 100}" for frame in range(11)
    ]
    path.write_text(HEADER + "\n".join(rows) + "\n")
    curves = read_curves(path, [1], ["importance", "happy", "gone"], points=4)
    assert (curves.frames, curves.frames_per_point, curves.columns) == (11, 4, ("importance", "happy"))
    np.testing.assert_allclose(curves.time_s, [0, 0.4, 0.8])
    np.testing.assert_allclose(curves.of(0, "importance"), [1, 5.5, 9])
    assert curves.seen[:, 0].tolist() == [FACE, FACE, FACE]


def test_frames_that_were_not_read_are_no_frames_without_a_face(tmp_path):
    path = tmp_path / "frames.csv"
    path.write_text(HEADER + "0,0,1,1,0.5,0.2\n0,0,2,0,,\n1,0.1,1,,,\n2,0.2,1,1,0.5,0.3\n")
    curves = read_curves(path, [1, 2], ["happy"])
    assert curves.seen.tolist() == [[FACE, NO_FACE], [NOT_READ, NOT_READ], [FACE, NOT_READ]]
    np.testing.assert_allclose(curves.of(0, "happy"), [0.2, np.nan, 0.3], rtol=1e-6)
    (small,), gaps = draw_small(curves, 0, ["happy"], ["happy"], low=0)
    assert small.path.count("M") == 1 and not gaps
    (_,), gaps = draw_small(curves, 1, ["happy"], [], low=0)
    assert len(gaps) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frame,face\n0,1\n", "has no column has_face, timestamp_s"),
        (HEADER + "0,0,1,1,0.5,0.2\n1,0.1,1,yes,0.5,0.2\n", "line 3: `has_face` is 'yes'"),
        (HEADER + "0,0,1,1,much,0.2\n", "line 2: could not convert string to float: 'much'"),
        (HEADER + "0,0\n", "line 2: list index out of range"),
    ],
)
def test_a_damaged_table_is_named(tmp_path, text, message):
    path = tmp_path / "frames.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        read_curves(path, [1], ["happy", "importance"])


def test_the_interval_of_a_condition_is_over_subjects():
    videos = [
        {"groups": {"subject": "a", "condition": "film"}, "values": {"happy": 0.2}},
        {"groups": {"subject": "a", "condition": "film"}, "values": {"happy": 0.4}},
        {"groups": {"subject": "b", "condition": "film"}, "values": {"happy": 0.9}},
        {"groups": {"subject": "b", "condition": "talk"}, "values": {"happy": 0.5}},
        {"groups": {}, "values": {"happy": 0.0}},
    ]
    condition, subject = compute_groups(videos, ["happy"])
    film, talk = condition.groups
    assert (condition.unit, film.name, film.videos, film.subjects) == ("subjects", "film", 3, 2)
    assert film.means[0].value == pytest.approx(0.6)
    assert film.means[0].interval == pytest.approx((0.3, 0.9))
    assert (talk.subjects, talk.means[0].value, talk.means[0].interval) == (1, 0.5, None)
    assert (subject.unit, [group.videos for group in subject.groups]) == ("videos", [2, 2])
    assert subject.groups[0].subjects is None


def test_without_subjects_the_interval_is_over_videos():
    videos = [{"groups": {"condition": "film"}, "values": {"happy": value}} for value in (0.1, 0.3, 0.5)]
    (condition,) = compute_groups(videos, ["happy"])
    assert condition.unit == "videos" and condition.groups[0].subjects is None
    low, high = condition.groups[0].means[0].interval
    assert 0.1 <= low < 0.3 < high <= 0.5
    assert compute_groups([{"groups": {}, "values": {"happy": 1}}], ["happy"]) == []


@pytest.mark.parametrize(
    ("path", "above", "expected"),
    [
        ("../films/a b.mp4", 1, "../../films/a%20b.mp4"),
        ("/data/ü#1?.mp4", 1, "file:///data/%C3%BC%231%3F.mp4"),
        ("C:\\films\\a.mp4", 1, "file:///C:/films/a.mp4"),
        ("javascript:alert(1)", 0, "./javascript%3Aalert%281%29"),
        ('"><script>', 0, "%22%3E%3Cscript%3E"),
    ],
)
def test_links_are_urls(path, above, expected):
    assert link_to(path, above) == expected


def test_numbers_are_shown_as_text():
    assert [show_duration(value) for value in (None, 2.54, 62, 3725)] == ["–", "2.5 s", "1:02 min", "1:02:05 h"]
    assert [show_number(value) for value in (None, -0.001, -0.5, 1)] == ["–", "0.00", "−0.50", "1.00"]
    assert [show_share(value) for value in (None, 0, 0.001, 0.5, 0.999, 1)] == [
        "–",
        "0 %",
        "<1 %",
        "50 %",
        ">99 %",
        "100 %",
    ]


def test_curves_differ_in_colour_or_dashes():
    assert len({(colour_of(place), dash_of(place)) for place in range(56)}) == 56
    assert len({colour_of(place) for place in range(7)}) == len({dash_of(place) for place in range(7)}) == 7


@pytest.mark.parametrize("module", ["vl_convert", "jinja2"])
def test_what_is_missing_is_named(study, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r"The report needs .*pip install 'affect\[plots\]'"):
        write_report(study)


def test_a_folder_of_another_format_is_refused(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        write_report(tmp_path)
    write_json(tmp_path / "study.json", {"format": 2})
    with pytest.raises(InputError, match=r"has format 2, and this version of affect reads 1"):
        write_report(tmp_path)


def test_a_hundred_classes_have_a_page(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    write_study(folder, [Film("a.mp4", is_film=False)], classes=[f"c{place}" for place in range(100)], columns=())
    _, page = write_report(folder)
    assert len(data_of(page.read_text(encoding="utf-8"))["colours"]) == 100
    assert len(CLASSES) == 7
