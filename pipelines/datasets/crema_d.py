"""CREMA-D: 91 actors, six emotions, and what people who saw the silent clips took them for."""

import re
from pathlib import PurePath

from affect.data.labels import CREMA_D, CREMA_D_VOTES
from affect.pipelines.datasets.source import Clips, Source, name_rest, require_folder, videos_below
from affect.pipelines.files import find_spelt
from affect.pipelines.tables import read_rows

NAME = re.compile(r"(?P<actor>1\d{3})_[A-Z]{3}_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX|X)", re.IGNORECASE)
# Clips as published, 7,442.
PUBLISHED = {("all", label): 1087 if label == "neutral" else 1271 for label in CREMA_D.values()}
# Where the tables of votes may lie, seen from the folder of the videos.
TABLES = (".", "processedResults", "..", "../processedResults")

# The column with the number of the query has no name, or one that R or pandas gave it.
QUERY = ("Unnamed: 0", "X", "")


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
        a table lacks, or whose row is damaged, has a `problem`; videos of other names and rows of another length are
        left out and named.

    Raises:
        InputError: On a table that cannot be read or lacks a column.
    """
    source = require_folder(source)
    clips, odd = Clips(), []
    table, votes = _votes(source, clips.left_out)
    for video in videos_below(source):
        if not NAME.fullmatch(video.stem):
            odd.append(video)
            continue
        name = video.stem.upper()
        actor, _, emotion, _ = name.split("_")
        lacks = f"{table} has no votes for {name}." if table and name not in votes else ""
        found = votes.get(name)
        found, lacks = (None, found) if isinstance(found, str) else (found, lacks)
        clips.append(Source(name, video, CREMA_D[emotion], actor, votes=found, problem=lacks))
    name_rest(clips, source, "A name is not as CREMA-D names its videos. Expected 1001_DFA_ANG_XX.", videos=odd)
    return clips.require(f"{source} is not CREMA-D. Expected {source}/VideoFlash/1001_DFA_ANG_XX.flv and so on.")


def _votes(source, faults):
    """Returns `(table, votes)`: the file and, by clip, class → share or what is wrong with its row; else `(None, {})`.

    The names of the table and of its clips count in whatever case, and the clips' with a suffix too.
    """
    for name, read in (("tabulatedVotes.csv", _counted), ("summaryTable.csv", _most_voted)):
        for place in TABLES:
            if table := find_spelt(source / place, name):
                return table, _by_clip(read(table, faults))
    return None, {}


def _by_clip(rows):
    votes = {}
    for line, clip, vote in rows:
        name = PurePath(clip.strip()).stem.upper()
        if isinstance(vote, str):
            vote = f"{line}: {vote}"
        elif votes.get(name, vote) != vote:
            vote = f"{line}: {name} is there twice, with other votes."
        votes[name] = vote if not isinstance(votes.get(name), str) else votes[name]
    return votes


def _counted(table, faults):
    """Yields `(place, clip, votes)` of the rows of those who saw the face; the votes are a str where they are none."""
    for line, row in read_rows(table, ("fileName", *CREMA_D_VOTES), faults=faults):
        query = next((row[name] for name in QUERY if name in row), "")
        if re.fullmatch(r"[13]\d{5}", query):  # 1… heard the voice, 2… saw the face, 3… had both
            continue
        place, counts = f"{table}, line {line}", {label: row[letter] for letter, label in CREMA_D_VOTES.items()}
        if not re.fullmatch(r"2\d{5}", query) or not all(re.fullmatch(r"\d{1,6}", count) for count in counts.values()):
            yield place, row["fileName"], "expected the number of the query, such as 200001, and counts of votes."
            continue
        counts = {label: int(count) for label, count in counts.items() if int(count)}
        shares = {label: count / sum(counts.values()) for label, count in counts.items()}
        yield place, row["fileName"], shares or f"{row['fileName'][:40]!r} has no votes."


def _most_voted(table, faults):
    """Yields `(place, clip, votes)` of the rows; the votes are a str where they are none."""
    for line, row in read_rows(table, ("FileName", "FaceVote"), faults=faults):
        letters = [letter.strip().upper() for letter in row["FaceVote"].split(":")]
        is_vote = set(letters) <= CREMA_D_VOTES.keys() and len(set(letters)) == len(letters)
        fault = f"expected a vote such as A or A:D. Received: {row['FaceVote'][:40]!r}"
        votes = {CREMA_D_VOTES[letter]: 1 / len(letters) for letter in letters} if is_vote else fault
        yield f"{table}, line {line}", row["FileName"], votes
