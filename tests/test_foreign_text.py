"""Texts of others on a terminal or a page: control characters are escaped, and nothing is taken for markup."""

import io

import pytest
from rich.console import Console

from affect import terminal
from affect.errors import escape_text
from affect.models.stream import Reading
from affect.progress import VideoProgress
from affect.reading.watch import Watched
from affect.report import write_report
from affect.tasks import PrintedTable, Printout
from tests.commands import refused
from tests.studies import Film, write_study

HOSTILE = "[/red] \x1b[2J\x1b]0;title\x07 :smile: \u202ebad\r\n"
SHOWN = "[/red] \\x1b[2J\\x1b]0;title\\x07 :smile: \\u202ebad\\r\\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (HOSTILE, SHOWN),
        ("Zoë 😀 \u200d نام 名", "Zoë 😀 \u200d نام 名"),
        ("\ud800\x9b\u2028\u2066", "\\ud800\\x9b\\u2028\\u2066"),
        ("caf\udce9.mp4", "caf\\xe9.mp4"),
        (3, "3"),
    ],
)
def test_what_is_shown_of_a_text(text, shown):
    assert escape_text(text) == shown


def is_clean(text):
    return not {"\x1b", "\x07", "\u202e", "\r"} & set(text)


def test_tables_and_lines(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    terminal.print_printout(
        Printout([PrintedTable(["", HOSTILE], [[HOSTILE, "1"]], title=HOSTILE)], [HOSTILE], [HOSTILE])
    )
    terminal.print_headline(HOSTILE)
    terminal.print_steps(HOSTILE, [(HOSTILE, HOSTILE, HOSTILE)])
    report = {
        "clips": [dict.fromkeys(("split", "label"), HOSTILE) | dict.fromkeys(COUNTS, 1) | {"coverage": 1.0}],
        "settings": {"faces": {"boxes": HOSTILE}},
        "subjects": {HOSTILE: 1},
        "subjects_in_several_splits": [HOSTILE],
        "length_s": [],
        "scores": [],
        "problems": {HOSTILE: HOSTILE},
        "left_out": [HOSTILE],
    }
    terminal.print_inspection(report)
    terminal.print_damage({"shards": 1, "records": 1, "faces": 1, "damage": [damage()]}, HOSTILE)
    out, err = capsys.readouterr()
    assert is_clean(out + err)
    assert out.count(SHOWN) >= 15
    assert err.count(SHOWN) == 4


COUNTS = ("clips", "clips_with_a_face", "frames", "faces")


def damage():
    return {"key": HOSTILE, "shard": HOSTILE, "problem": HOSTILE}


def test_the_live_view():
    reading = Reading(0.0, 1, 1, HOSTILE, {HOSTILE: 1.0}, {HOSTILE: 1.0}, 0.5, None)
    watched = Watched(reading, 0, (0, 0, 1, 1), (0.5,))
    out = io.StringIO()
    Console(file=out, width=200).print(terminal.draw_watched(watched, 1.0))
    assert SHOWN in out.getvalue()
    assert is_clean(out.getvalue())


def test_a_progress_bar(capsys):
    with VideoProgress(1.0) as progress:
        progress.begin(HOSTILE, 1.0)
    assert "\x07" not in capsys.readouterr().err


def test_a_command(tmp_path):
    line = refused("predict", "fer2013", tmp_path / "a\x1b[2J[/red].mp4")
    assert "a\\x1b[2J[/red].mp4" in line
    assert is_clean(line)


def test_pages(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    write_study(folder, [Film(HOSTILE.replace("\n", "") + "x.mp4", is_film=False, groups={"subject": HOSTILE})])
    for page in write_report(folder):
        text = page.read_bytes().decode()
        assert is_clean(text), page
        assert "[/red] \\x1b[2J" in text
