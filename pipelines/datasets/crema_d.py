"""CREMA-D: 91 actors, six emotions, and the votes of people who saw the clips without sound."""

import re
from pathlib import Path, PurePath

from affect.data.labels import CREMA_D, CREMA_D_VOTES
from affect.pipelines.datasets.source import Clips, Source, name_rest, require_folder, videos_below
from affect.pipelines.files import find_spelt
from affect.pipelines.tables import read_rows

NAME = re.compile(r"(?P<actor>1\d{3})_[A-Z]{3}_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX|X)", re.IGNORECASE)
# Published numbers of clips, 7,442 in all.
PUBLISHED = {("all", label): 1087 if label == "neutral" else 1271 for label in CREMA_D.values()}
# Folders that may hold the tables of votes, relative to the folder of the videos.
TABLES = (".", "processedResults", "..", "../processedResults")

# The column with the number of the query has no name, or the name that R or pandas gives to such a column.
QUERY = ("Unnamed: 0", "X", "")


def crema_d(source: Path | str) -> Clips:
    """Lists the clips of CREMA-D in all folders below SOURCE: `VideoFlash/1001_DFA_ANG_XX.flv`.

    The label is the emotion that was acted. The votes are from the raters who saw the face only. `tabulatedVotes.csv`
    gives the share of each emotion. If it is missing, `summaryTable.csv` gives the emotion with most votes; emotions
    with equally many votes get equal shares. The tables are looked for in SOURCE, in the folder above, and in
    `processedResults` in both. There are no official splits; `affect prepare --dataset csv` accepts your own.

    Args:
        source: Folder of the whole data set, or of the videos.

    Returns:
        Clips; a key is `"1001_DFA_ANG_XX"`, a subject `"1001"`. Without tables there are no votes. A clip that a table
        lacks, or whose row is damaged, has a `problem`. Videos of other names and rows of another length are left out
        and named.

    Raises:
        InputError: On a table that cannot be read or lacks a column.
    """
    root = require_folder(source)
    clips, odd = Clips(), []
    table, votes = _read_votes(root, clips.left_out)
    for video in videos_below(root):
        if not NAME.fullmatch(video.stem):
            odd.append(video)
            continue
        name = video.stem.upper()
        actor, _, emotion, _ = name.split("_")
        lacks = f"{table} has no votes for {name}." if table and name not in votes else ""
        found = votes.get(name)
        found, lacks = (None, found) if isinstance(found, str) else (found, lacks)
        clips.append(Source(name, video, CREMA_D[emotion], actor, votes=found, problem=lacks))
    name_rest(clips, root, "A name is not as CREMA-D names its videos. Expected 1001_DFA_ANG_XX.", videos=odd)
    return clips.require(f"{root} is not CREMA-D. Expected {root}/VideoFlash/1001_DFA_ANG_XX.flv and so on.")


def _read_votes(source, faults):
    """Returns `(table, votes)`: the file, and for each clip class → share, or a str with the fault of its row.

    Without a table it returns `(None, {})`. The names of the table and of its clips may be in any case, and the names
    of clips may have a suffix.
    """
    for name, read in (("tabulatedVotes.csv", _read_counts), ("summaryTable.csv", _read_most_voted)):
        for place in TABLES:
            if table := find_spelt(source / place, name):
                return table, _group_by_clip(read(table, faults))
    return None, {}


def _group_by_clip(rows):
    votes = {}
    for line, clip, vote in rows:
        name = PurePath(clip.strip()).stem.upper()
        if isinstance(vote, str):
            vote = f"{line}: {vote}"
        elif votes.get(name, vote) != vote:
            vote = f"{line}: {name} is there twice, with other votes."
        votes[name] = vote if not isinstance(votes.get(name), str) else votes[name]
    return votes


def _read_counts(table, faults):
    """Yields `(place, clip, votes)` of the raters who saw the face only; `votes` is a str if the row has a fault."""
    for line, row in read_rows(table, ("fileName", *CREMA_D_VOTES), faults=faults):
        query = next((row[name] for name in QUERY if name in row), "")
        if re.fullmatch(r"[13]\d{5}", query):  # 1…: raters of the voice, 2…: of the face, 3…: of both
            continue
        place, texts = f"{table}, line {line}", {label: row[letter] for letter, label in CREMA_D_VOTES.items()}
        if not re.fullmatch(r"2\d{5}", query) or not all(re.fullmatch(r"\d{1,6}", text) for text in texts.values()):
            yield place, row["fileName"], "expected the number of the query, such as 200001, and counts of votes."
            continue
        counts = {label: int(text) for label, text in texts.items() if int(text)}
        shares = {label: count / sum(counts.values()) for label, count in counts.items()}
        yield place, row["fileName"], shares or f"{row['fileName'][:40]!r} has no votes."


def _read_most_voted(table, faults):
    """Yields `(place, clip, votes)` of each row; `votes` is a str if the row has a fault."""
    for line, row in read_rows(table, ("FileName", "FaceVote"), faults=faults):
        letters = [letter.strip().upper() for letter in row["FaceVote"].split(":")]
        is_vote = set(letters) <= CREMA_D_VOTES.keys() and len(set(letters)) == len(letters)
        fault = f"expected a vote such as A or A:D. Received: {row['FaceVote'][:40]!r}"
        votes = {CREMA_D_VOTES[letter]: 1 / len(letters) for letter in letters} if is_vote else fault
        yield f"{table}, line {line}", row["FileName"], votes
