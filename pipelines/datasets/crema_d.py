"""CREMA-D: 91 actors, six emotions, and what people who saw the silent clips took them for."""

import re

from affect.errors import InputError
from affect.labels import CREMA_D, CREMA_D_VOTES
from pipelines.datasets.source import Clips, Source, name_rest, require_folder, videos_below
from pipelines.tables import read_rows

NAME = re.compile(r"(?P<actor>1\d{3})_[A-Z]{3}_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX|X)", re.IGNORECASE)
# Clips as published, 7,442.
PUBLISHED = {("all", label): 1087 if label == "neutral" else 1271 for label in CREMA_D.values()}
# Where the tables of votes may lie, seen from the folder of the videos.
TABLES = (".", "processedResults", "..", "../processedResults")


def crema_d(source):
    """Lists the clips of CREMA-D, wherever they lie below SOURCE: `VideoFlash/1001_DFA_ANG_XX.flv`.

    The label is the emotion that was acted. The votes are those of raters who saw the face alone: their shares, from
    `tabulatedVotes.csv`; else, from `summaryTable.csv`, the emotion with most votes, shared equally where several have
    as many. The tables are looked for in SOURCE, the folder above, and `processedResults` in either. There are no
    official splits; `affect prepare --dataset csv` takes yours.

    Args:
        source: Folder: the whole data set's, or that of the videos.

    Returns:
        `Clips`; a key is `"1001_DFA_ANG_XX"`, a subject `"1001"`. Without tables there are no votes. A clip that
        a table lacks has a `problem`, and videos of other names are left out and named.

    Raises:
        InputError: On a table that is damaged.
    """
    source = require_folder(source)
    table, votes = _votes(source)
    clips, odd = Clips(), []
    for video in videos_below(source):
        if not NAME.fullmatch(video.stem):
            odd.append(video)
            continue
        name = video.stem.upper()
        actor, _, emotion, _ = name.split("_")
        lacks = f"{table} has no votes for {name}." if votes and name not in votes else ""
        clips.append(Source(name, video, CREMA_D[emotion], actor, votes=votes.get(name), problem=lacks))
    name_rest(clips, source, "A name is not as CREMA-D names its videos. Expected 1001_DFA_ANG_XX.", videos=odd)
    return clips.require(f"{source} is not CREMA-D. Expected {source}/VideoFlash/1001_DFA_ANG_XX.flv and so on.")


def _votes(source):
    """Returns `(table, votes)`: the file and, by clip, class → share; without a table `(None, {})`."""
    for name, read in (("tabulatedVotes.csv", _counted), ("summaryTable.csv", _most_voted)):
        for place in TABLES:
            if (table := source / place / name).is_file():
                return table, read(table)
    return None, {}


def _counted(table):
    votes = {}
    for line, row in read_rows(table, ("", "fileName", *CREMA_D_VOTES)):
        counts = {label: row[letter] for letter, label in CREMA_D_VOTES.items()}
        if not all(re.fullmatch(r"\d{1,6}", count) for count in (row[""], *counts.values())):
            raise InputError(f"{table}, line {line}: expected the number of the query and counts of votes.")
        if row[""][0] != "2":  # queries 1… heard the voice, 2… saw the face, 3… had both
            continue
        counts = {label: int(count) for label, count in counts.items() if int(count)}
        if not counts or row["fileName"] in votes:
            raise InputError(f"{table}, line {line}: {row['fileName'][:40]!r} has no votes, or stands there twice.")
        votes[row["fileName"]] = {label: count / sum(counts.values()) for label, count in counts.items()}
    return votes


def _most_voted(table):
    votes = {}
    for line, row in read_rows(table, ("FileName", "FaceVote")):
        letters = row["FaceVote"].split(":")
        if not set(letters) <= CREMA_D_VOTES.keys() or len(set(letters)) < len(letters) or row["FileName"] in votes:
            raise InputError(
                f"{table}, line {line}: expected a new clip and a vote such as A or A:D. Received: "
                f"{row['FileName'][:40]!r} and {row['FaceVote'][:40]!r}"
            )
        votes[row["FileName"]] = {CREMA_D_VOTES[letter]: 1 / len(letters) for letter in letters}
    return votes
