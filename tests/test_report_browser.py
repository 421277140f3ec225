"""The pages of a study in Chromium: what a person sees, clicks and types. Skipped where there is no Chromium."""

import csv
import io
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from affect.report import write_report
from tests.studies import CLASSES, Film, write_study

FILMS = [
    Film("a/one.mp4", seconds=4, groups={"subject": "s1", "condition": "film"}),
    Film("two people.webm", people=2, codec="libvpx", groups={"subject": "s2", "condition": "talk"}),
    Film("old.mp4", codec="mpeg4", without_a_face=(0, 0)),
    Film("nobody.mp4", people=0),
    Film("broken.mp4", problem="No frame could be decoded."),
    Film("<script>alert(1)</script> \"ü\" 'é' 😀.mp4", people=2),
    Film("long.mp4", seconds=600, is_film=False, without_a_face=(100, 130)),
    Film("copy.mp4", has_preview=True),
]
ONE, TWO, OLD, NOBODY, BROKEN, HOSTILE, LONG, COPY = range(len(FILMS))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "out"
    folder.mkdir()
    write_study(folder, FILMS)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("Chromium is absent: the pages of a report in a browser (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, study):
    """Opens a page; fails in the end if the page wrote an error to the console, or asked for anything but a file."""
    contexts, faults = [], []

    def visit(name, **settings):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on(
            "console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "request",
            lambda request: None if request.url.startswith(("file:", "data:", "blob:")) else faults.append(request.url),
        )
        page.on("dialog", lambda dialog: faults.append(f"dialog {dialog.message}"))
        page.goto((study / name).as_uri())
        if page.locator("#plot").count():
            page.wait_for_selector("#plot svg .mark-line path")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not faults


def video(place):
    return f"pages/{place:02d}.html"


def time_of(page):
    return page.evaluate("document.getElementById('video').currentTime")


def wait_for_video(page):
    page.wait_for_function("document.getElementById('video').readyState >= 2")


def wait_for_time(page, expected, within=0.04):
    page.wait_for_function(
        f"(v => !v.seeking && Math.abs(v.currentTime - {expected}) <= {within})(document.getElementById('video'))"
    )


def playhead(page):
    """Returns where the playhead is, as a share of the chart's width."""
    return page.evaluate(
        "(() => { const a = document.getElementById('head').getBoundingClientRect(),"
        " b = document.getElementById('seek').getBoundingClientRect(); return (a.left - b.left) / b.width; })()"
    )


def curve_paths(page):
    return page.locator("#plot .curve_marks path").evaluate_all("paths => paths.map(path => path.getAttribute('d'))")


def click_at(page, share, y=100):
    page.locator("#seek").scroll_into_view_if_needed()
    box = page.locator("#seek").bounding_box()
    page.mouse.click(box["x"] + share * box["width"], box["y"] + y)


def test_a_page_shows_a_curve_for_each_class_with_a_point_for_each_frame(visit):
    page = visit(video(ONE))
    paths = curve_paths(page)
    assert len(paths) == len(CLASSES)
    # 100 frames, 13 of them without a face; the curve is broken there.
    assert [len(re.findall("[ML]", path)) for path in paths] == [87] * len(CLASSES)
    assert all(path.count("M") == 2 for path in paths)
    assert page.locator("#plot .gaps_marks path").count() == 1
    assert page.locator("#plot .importance_marks path").count() == 1
    labels = page.locator("#plot .labels_marks text").all_text_contents()
    assert sorted(labels) == sorted(CLASSES)
    tops = [page.locator("#plot .labels_marks text").nth(place).bounding_box()["y"] for place in range(len(CLASSES))]
    assert np.diff(sorted(tops)).min() > 10
    assert page.locator("#rows label").count() == len(CLASSES)


def test_a_click_on_the_curves_moves_the_video_and_the_readout(visit):
    page = visit(video(ONE))
    wait_for_video(page)
    click_at(page, 0.5)
    wait_for_time(page, 2.0 + 0.02)
    assert playhead(page) == pytest.approx(0.5, abs=0.01)
    assert page.locator("#now").inner_text() == "2.00 s"
    values = [float(text) for text in page.locator("#rows .value").all_inner_texts()]
    assert sum(values) == pytest.approx(1, abs=0.04)
    click_at(page, 0.3)
    page.wait_for_function("document.getElementById('state').textContent === 'no face in this frame'")
    assert set(page.locator("#rows .value").all_inner_texts()) == {"–"}


def test_the_video_shows_the_frame_that_the_curves_name(visit):
    """In the films a square goes from left to right: where it is tells the time."""
    page = visit(video(TWO))
    wait_for_video(page)
    for share in (0.11, 0.52, 0.93):
        click_at(page, share)
        page.wait_for_function("!document.getElementById('video').seeking")
        page.wait_for_timeout(150)
        picture = np.asarray(Image.open(io.BytesIO(page.locator("#video").screenshot())).convert("L"))
        row = picture[picture.shape[0] // 3, : int(picture.shape[1] * 0.98)]
        left = np.flatnonzero(row > 120)[0] * 320 / picture.shape[1]
        time_s = float(page.locator("#now").inner_text().removesuffix(" s"))
        assert left == pytest.approx(20 + 200 * time_s / 4, abs=1.5)  # A frame is 2 pixels.


def test_a_drag_moves_the_video_along(visit):
    page = visit(video(ONE))
    wait_for_video(page)
    box = page.locator("#seek").bounding_box()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 60, steps=5)
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 60, steps=5)
    page.mouse.up()
    wait_for_time(page, 3.02)
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 60)
    assert page.locator("#now").inner_text() == "3.00 s"


def test_keys_move_by_a_frame_a_second_and_to_the_ends(visit):
    page = visit(video(ONE))
    wait_for_video(page)
    seek = page.locator("#seek")
    seek.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    wait_for_time(page, 0.1)
    assert seek.get_attribute("aria-valuenow") == "0.08"
    page.keyboard.press("Shift+ArrowRight")
    assert seek.get_attribute("aria-valuenow") == "1.08"
    page.keyboard.press("ArrowLeft")
    assert page.locator("#now").inner_text() == "1.04 s"
    page.keyboard.press("End")
    assert seek.get_attribute("aria-valuenow") == "3.96"
    page.keyboard.press("Home")
    assert seek.get_attribute("aria-valuenow") == "0.00"
    assert re.match(r"0\.00 s: angry \d\.\d\d, ", seek.get_attribute("aria-valuetext"))
    wait_for_time(page, 0.02)


def test_the_playhead_follows_the_video(visit):
    page = visit(video(ONE))
    wait_for_video(page)
    page.locator("#seek").focus()
    page.keyboard.press("Space")
    page.wait_for_function("document.getElementById('video').currentTime > 0.5")
    page.wait_for_function("parseFloat(document.getElementById('head').style.left) > 10")
    page.keyboard.press("Space")
    page.wait_for_function("document.getElementById('video').paused")
    assert playhead(page) == pytest.approx(time_of(page) / 4, abs=0.03)
    # The video's own controls, while it is paused.
    page.evaluate("document.getElementById('video').currentTime = 3")
    page.wait_for_function("document.getElementById('now').textContent === '3.00 s'")
    assert playhead(page) == pytest.approx(0.75, abs=0.01)


def test_a_link_to_the_peak_opens_there(visit, study):
    page = visit("report.html")
    link = page.locator("tbody tr").first.locator("a[href*='#t=']")
    at = float(re.search("t=([0-9.]+)", link.get_attribute("href"))[1])
    link.click()
    page.wait_for_selector("#plot svg .mark-line path")
    wait_for_time(page, at + 0.02)
    assert page.locator("#now").inner_text() == f"{at:.2f} s"


def test_a_face_opens_with_its_attention_and_each_head(visit):
    page = visit(video(ONE))
    faces = page.locator(".faces button")
    assert 15 <= faces.count() <= 24
    faces.nth(1).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#face:not([hidden])")
    assert faces.nth(1).get_attribute("aria-pressed") == "true"
    pictures = []
    page.wait_for_function("document.getElementById('canvas').getAttribute('aria-label') !== ''")
    for head in ("mean", "0", "1"):
        page.locator(f"#heads input[value='{head}']").check()
        pictures.append(page.evaluate("document.getElementById('canvas').toDataURL()"))
    page.locator("#shows").uncheck()
    pictures.append(page.evaluate("document.getElementById('canvas').toDataURL()"))
    assert len(set(pictures)) == 4
    faces.nth(0).click()
    assert page.locator("#no-attention").is_visible() and not page.locator("#attention").is_visible()
    page.locator("#close").click()
    assert not page.locator("#face").is_visible()
    assert page.evaluate("document.activeElement.className || document.activeElement.dataset.face") == "1 0"


def test_faces_stand_at_their_time(visit):
    page = visit(video(ONE))
    box = page.locator("#seek").bounding_box()
    for place in (0, 5, 12):
        button = page.locator(".faces button").nth(place)
        at = float(re.search(r"at ([0-9.]+) s", button.get_attribute("aria-label"))[1])
        face = button.bounding_box()
        assert face["x"] + face["width"] / 2 == pytest.approx(box["x"] + box["width"] * at / 4, abs=2)


def test_curves_are_hidden_and_shown(visit):
    page = visit(video(ONE))
    page.locator("#rows input").nth(0).uncheck()
    page.wait_for_function("document.querySelectorAll('#plot .curve_marks path').length === 6")
    page.locator("#rows input").nth(0).check()
    page.wait_for_function("document.querySelectorAll('#plot .curve_marks path').length === 7")


def test_rows_and_measures_change_what_is_drawn(visit):
    page = visit(video(ONE))
    first = curve_paths(page)
    page.get_by_label("One each").check()
    page.wait_for_function("document.querySelector('#plot').textContent.includes('each row from 0 to 1')")
    assert curve_paths(page) != first
    page.get_by_label("Smoothed").check()
    page.wait_for_function("document.querySelector('#plot').textContent.includes('smoothed')")
    page.get_by_label("Change from baseline").check()
    page.wait_for_function("document.querySelector('#plot').textContent.includes('Change of log p from baseline')")


def test_people_are_told_apart(visit):
    page = visit(video(TWO))
    wait_for_video(page)
    assert page.locator("#boxes div").count() == 2
    assert page.locator("#boxes div.main").inner_text() == "1"
    values = page.locator("#rows .value").all_inner_texts()
    page.get_by_label("2 (", exact=False).check()
    page.wait_for_function("document.querySelector('#boxes div.main').textContent === '2'")
    assert page.locator("#rows .value").all_inner_texts() != values
    assert page.locator("#state").inner_text() == "person 2"
    page.get_by_label("Compare", exact=True).check()
    page.wait_for_function("document.querySelectorAll('#plot .curve_marks path').length === 2")
    strokes = page.locator("#plot .curve_marks path").evaluate_all(
        "paths => paths.map(path => path.getAttribute('stroke') + path.getAttribute('stroke-dasharray'))"
    )
    assert len(set(strokes)) == 2
    assert page.locator("#rows label").all_inner_texts()[0].startswith("Person 1")
    page.locator("#class").select_option("sad")
    page.wait_for_function("document.querySelector('#plot').textContent.includes('Probability of sad')")
    assert page.locator(".faces").count() == 2


def test_a_box_is_where_the_face_is(visit):
    page = visit(video(ONE))
    wait_for_video(page)
    click_at(page, 0.75)
    wait_for_time(page, 3.02)
    screen, box = page.locator("#screen").bounding_box(), page.locator("#boxes div").bounding_box()
    assert (box["x"] - screen["x"]) / screen["width"] * 320 == pytest.approx(170, abs=3)
    assert box["width"] / screen["width"] * 320 == pytest.approx(60, abs=3)


def test_a_preview_has_no_second_box(visit):
    page = visit(video(COPY))
    wait_for_video(page)
    assert page.locator("#video").get_attribute("src") == "../previews/7.mp4"
    assert page.locator("#boxes div").count() == 0
    assert "A small copy" in page.locator("main").inner_text()


def test_zoom_shows_a_part_that_follows_the_playhead(visit):
    page = visit(video(ONE))
    points = int(page.locator("#chart").get_attribute("data-points"))
    page.locator("#seek").focus()
    page.keyboard.press("+")
    page.keyboard.press("+")
    page.wait_for_function(f"+document.getElementById('chart').dataset.points < {points / 2}")
    page.keyboard.press("End")
    page.wait_for_function("!document.getElementById('head').hidden")
    assert 0 <= playhead(page) <= 1
    page.keyboard.press("0")
    page.wait_for_function(f"+document.getElementById('chart').dataset.points === {points}")


@pytest.mark.parametrize("place", [OLD, LONG])
def test_a_video_that_the_browser_cannot_play_says_so(browser, study, place):
    """Of an old codec, and of a file that is not there. The browser itself writes the second to its console."""
    page = browser.new_page()
    page.goto((study / video(place)).as_uri())
    page.wait_for_selector("#unplayable:not([hidden])")
    assert "This browser cannot play the video" in page.locator("#unplayable").inner_text()
    assert not page.locator("#screen").is_visible()
    page.locator("#seek").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#seek").get_attribute("aria-valuenow") == "0.04"
    page.close()


def test_ten_minutes_are_drawn_and_moved_smoothly(browser, study):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((study / video(LONG)).as_uri())
    page.wait_for_selector("#plot svg .mark-line path")
    paths = curve_paths(page)
    counts = [len(re.findall("[ML]", path)) for path in paths]
    assert len(paths) == 7 and 1000 < min(counts) <= max(counts) < 4 * 1280
    seconds = page.evaluate(
        "(async () => { const seek = document.getElementById('seek'), next = () => new Promise(requestAnimationFrame);"
        " seek.focus(); const start = performance.now();"
        " for (let i = 0; i < 30; i++) { seek.dispatchEvent(new KeyboardEvent('keydown', { key: 'PageUp' }));"
        " await next(); }"
        " return (performance.now() - start) / 30000; })()"
    )
    assert seconds < 0.1
    page.close()


def test_figure_and_numbers_are_saved(visit, tmp_path):
    page = visit(video(TWO))
    files = {}
    for button in ("svg", "png", "csv"):
        with page.expect_download() as waiting:
            page.locator(f"#{button}").click()
        download = waiting.value
        files[button] = tmp_path / download.suggested_filename
        download.save_as(files[button])
    assert files["svg"].name == "two-people.webm.svg"
    svg = files["svg"].read_text(encoding="utf-8")
    assert svg.startswith("<svg") and "currentColor" not in svg and "two people.webm, person 1" in svg
    assert svg.count("<image") > 5 and all(f">{name}<" in svg for name in CLASSES)
    picture = Image.open(files["png"])
    assert picture.width > 1600 and picture.convert("RGB").getpixel((2, 2)) == (255, 255, 255)
    rows = list(csv.DictReader(io.StringIO(files["csv"].read_text(encoding="utf-8"))))
    assert len(rows) == 100 and list(rows[0]) == ["time_s", "has_face", "importance", *CLASSES]
    assert sum(float(rows[0][name]) for name in CLASSES) == pytest.approx(1, abs=1e-3)
    assert (rows[30]["has_face"], rows[30]["happy"]) == ("0", "")
    assert sum(float(row["importance"] or 0) for row in rows) == pytest.approx(1, abs=1e-3)


def names(page):
    return page.locator("#table tbody tr:not([hidden]) th").all_inner_texts()


def test_the_table_is_sorted_by_click_and_by_key(visit):
    page = visit("report.html")
    before = names(page)
    assert len(before) == 10 and before[0] == "a/one.mp4"
    header = page.locator("#table thead th", has_text="happy")
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    cells = page.locator("#table tbody td[data-name=happy]").all_inner_texts()
    numbers = [float(text) for text in cells if text]
    assert numbers == sorted(numbers, reverse=True) and cells[-2:] == ["", ""]
    header.locator("button").focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    cells = page.locator("#table tbody td[data-name=happy]").all_inner_texts()
    assert [float(text) for text in cells if text] == sorted(numbers) and cells[-2:] == ["", ""]
    first = page.locator("#table thead th").first
    first.locator("button").focus()
    page.keyboard.press("Space")
    assert (first.get_attribute("aria-sort"), header.get_attribute("aria-sort")) == ("ascending", "none")
    assert [name for name in names(page) if name.startswith(("broken", "copy", "long"))] == [
        "broken.mp4",
        "copy.mp4",
        "long.mp4",
    ]
    page.locator("#find").fill("two peo")
    assert names(page) == ["two people.webm"] * 2
    assert page.locator("#count").inner_text() == "2 of 10 rows"


def test_links_lead_to_the_pages_and_back(visit):
    page = visit("report.html")
    page.get_by_role("link", name="broken.mp4").click()
    assert "No frame could be decoded." in page.locator("main").inner_text()
    page.get_by_role("link", name="All videos").click()
    assert page.locator("h1").inner_text() == "What made read in 8 videos"
    page.get_by_role("link", name="nobody.mp4").click()
    assert "No face was found" in page.locator("main").inner_text()


def test_hostile_names_are_text(visit):
    page = visit(video(HOSTILE))
    assert page.locator("h1").inner_text() == FILMS[HOSTILE].name
    wait_for_video(page)
    page.goto(page.url.replace(video(HOSTILE), "report.html"))
    assert FILMS[HOSTILE].name in names(page)


@pytest.mark.parametrize("name", ["report.html", video(TWO), video(HOSTILE), video(NOBODY)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scroll(visit, name, scheme):
    page = visit(name, viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True)
    page.wait_for_timeout(100)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    if page.locator("#seek").count():
        page.locator("#seek").scroll_into_view_if_needed()
        box = page.locator("#seek").bounding_box()
        page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + 50)
        assert playhead(page) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("name", ["report.html", video(ONE)])
def test_dark_and_light_have_contrast(visit, name):
    for scheme, is_dark in (("light", False), ("dark", True)):
        page = visit(name, color_scheme=scheme)
        ink, paper = page.evaluate(
            "['color', 'backgroundColor'].map(key => getComputedStyle(document.body)[key].match(/\\d+/g).map(Number))"
        )
        assert (sum(paper) < 150) == is_dark and abs(sum(ink) - sum(paper)) > 500
        quiet = page.locator(".quiet").first.evaluate("each => getComputedStyle(each).color.match(/\\d+/g).map(Number)")
        assert contrast(quiet, paper) >= 4.5
        if page.locator("#plot text").count():
            fill = page.locator("#plot text").first.evaluate(
                "each => getComputedStyle(each).fill.match(/\\d+/g).map(Number)"
            )
            assert contrast(fill, paper) >= 4.5


def contrast(one, other):
    """Returns the contrast of two colours as WCAG computes it."""

    def luminance(colour):
        parts = [value / 255 for value in colour[:3]]
        parts = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_keyboard_reaches_all_controls_and_focus_is_seen(visit):
    page = visit(video(TWO))
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        where, outline = page.evaluate(
            "(e => [e.id || e.dataset.face || e.name || e.tagName, getComputedStyle(e).outlineStyle + "
            "getComputedStyle(e.closest('.choice') || e).outlineStyle])(document.activeElement)"
        )
        reached.add(where)
        if where not in ("BODY", "video"):
            assert "solid" in outline or "auto" in outline, where
    assert {"video", "person", "measure", "layout", "closer", "svg", "png", "csv", "seek", "1 0"} <= reached


def test_paper_has_black_curves_on_white_and_no_controls(visit):
    page = visit(video(ONE), color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#svg").is_visible() and not page.locator("#video").is_visible()
    assert page.locator("#plot svg").is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")
