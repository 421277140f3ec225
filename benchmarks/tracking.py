"""How well faces are followed: identity switches, fragments and coverage on scenes whose people are known.

    python -m benchmarks.tracking [FACES_FOLDER] [--seconds 6] [--people 2 --rate-hz 4 ...] [--out result.json]

The people of a scene are scikit-image's portrait and, where a folder is given, the faces of its photographs. They are
pasted on a coloured background, sway, grow, nod and change their brightness. The detector finds them as in any video.
`boxes` links the same detections by the overlap of boxes within two seconds, as this project did before; `tracks` is
`affect.pipelines.tracks`.

A switch is a face in a track that shows another person than the face before. Fragments are the tracks of a person
beyond the first. Coverage is the share of a person's faces that are in the longest track of that person. `doubtful`
counts the tracks of at most three faces, which are mostly half-hidden faces.
"""

import json
import math
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import skimage.data
import typer

from affect.config import Faces, write_json
from affect.pipelines.appearance import Dissolves, describe_face, find_cuts
from affect.pipelines.detectors import DETECTORS
from affect.pipelines.faces import cut_face
from affect.pipelines.follow import find_faces
from affect.pipelines.tracks import TRACK_GAP_S, Tracks, match

HEIGHT, WIDTH, FACE_PX = 300, 640, 70
# The earlier rule: boxes overlap, and the track was seen within two seconds.
RULES = {"boxes": lambda: Boxes(), "tracks": lambda: Tracks()}


class Boxes:
    """The earlier rule: only the overlap of boxes, and the seconds between frames. This benchmark compares with it."""

    def __init__(self):
        self.live, self.begun = {}, 0

    def add(self, timestamp_s, shape, detections):
        self.live = {i: seen for i, seen in self.live.items() if timestamp_s - seen[0] <= TRACK_GAP_S}
        live = list(self.live)
        bare = [type(one)(one.box, one.landmarks, one.score) for one in detections]
        ids = {j: live[i] for i, j in match([seen for _, seen in self.live.values()], bare)}
        for j in sorted(set(range(len(bare))) - ids.keys(), key=lambda j: tuple(bare[j].box)):
            ids[j], self.begun = self.begun, self.begun + 1
        self.live |= {ids[j]: (timestamp_s, one) for j, one in enumerate(bare)}
        return [ids[j] for j in range(len(bare))]


def find_people(folder, detector):
    """Returns the people to paste: list of `(image, detection)`, faces of at least 50 pixels, each photograph's own."""
    images = [skimage.data.astronaut()]
    for path in sorted(Path(folder).glob("*.jpg")) if folder else ():
        images.append(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))
    found = [(image, one) for image in images for one in detector.detect([image])[0]]
    return [(image, one) for image, one in found if one.box[2] - one.box[0] >= 50]


def paste(frame, person, x, y, *, size=FACE_PX, angle_deg=0.0, gain=1.0):
    """Pastes a head, in an oval without its background, so that its face is `size` wide and has its middle at x, y."""
    image, detection = person
    x0, y0 = max(int(x - 1.2 * size), 0), max(int(y - 1.2 * size), 0)
    part = frame[y0 : max(int(y + 1.2 * size), 0), x0 : max(int(x + 1.2 * size), 0)]
    if not part.size:
        return
    at = np.array([x - x0, y - y0])
    middle = detection.box.reshape(2, 2).mean(axis=0)
    scale = float(size / (detection.box[2] - detection.box[0]))
    matrix = cv2.getRotationMatrix2D(tuple(map(float, middle)), angle_deg, scale)
    matrix[:, 2] += at - middle
    shape = part.shape[1::-1]
    head = cv2.warpAffine(image, matrix, shape, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    oval = np.zeros(part.shape[:2], np.uint8)
    cv2.ellipse(oval, tuple(map(round, at)), (round(0.75 * size), round(size)), angle_deg, 0, 360, 255, -1)
    share = cv2.GaussianBlur(oval, (0, 0), 0.03 * size)[..., None] / 255
    part[:] = np.clip(part * (1 - share) + gain * head * share, 0, 255).astype(np.uint8)


def play(people, places, *, rate_hz, seconds, rng):
    """Returns the frames and the truth of a scene.

    Args:
        people: List of `(image, detection)`.
        places: `places(time_s)` gives a list of `(index of the person, x, y)`, those in front last, and the number of
            the shot.
        rate_hz, seconds: Frames a second, and how long.
        rng: NumPy generator.

    Returns:
        `(frames, truth)`: list of `(timestamp_s, frame)`; list of lists of `(index of the person, x, y)`.
    """
    rough = [rng.integers(30, 220, (6, 10, 3)).astype(np.uint8) for _ in range(2)]
    grounds = [cv2.resize(ground, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for ground in rough]
    phases = rng.uniform(0, 6, len(people))
    frames, truth = [], []
    for index in range(round(seconds * rate_hz)):
        time_s = index / rate_hz
        shown, shot = places(time_s)
        frame = grounds[shot].copy()
        for who, x, y in shown:
            swing = math.sin(2 * time_s + phases[who])
            paste(
                frame,
                people[who],
                x,
                y + 3 * swing,
                size=FACE_PX * (1 + 0.05 * swing),
                angle_deg=6 * math.sin(1.3 * time_s + phases[who]),
                gain=1 + 0.1 * math.sin(time_s + 2 * phases[who]),
            )
        frame = np.clip(frame + rng.normal(0, 3, frame.shape), 0, 255).astype(np.uint8)
        frames.append((time_s, frame))
        truth.append(shown)
    return frames, truth


def scenes(count):
    """Returns name → `places` as of `play`, for so many people."""

    def seats(shift=0.0):
        return [WIDTH * (who + 0.5) / count + shift for who in range(count)]

    def stand(time_s):
        return [(who, x + 8 * math.sin(time_s + who), 150) for who, x in enumerate(seats())], 0

    def walk(time_s):  # all to the right, and in again on the left
        return [(who, (x + 220 * time_s) % (WIDTH + 160) - 80, 150) for who, x in enumerate(seats())], 0

    def cross(time_s):  # the even to the right and the odd to the left, and back
        way = 0.5 - 0.5 * math.cos(0.9 * time_s)
        shown = [(who, 60 + (way if who % 2 else 1 - way) * (WIDTH - 120), 150) for who in range(min(count, 2))]
        return shown + [(who, WIDTH * who / (count + 1), 250) for who in range(2, count)], 0

    def cut(time_s):  # to others in the same places, and back
        shot = int(time_s / 1.5) % 2
        return [(who + shot * count, x, 150) for who, x in enumerate(seats())], shot

    def same_room(time_s):  # a cut between pictures of one background
        return cut(time_s)[0], 0

    def leave(time_s):  # the first is away for a while, and returns in another place
        away = 1.5 <= time_s < 4.5
        first = [] if away else [(0, seats()[0] + (30 if time_s > 2 else 0), 150)]
        return first + [(who, x, 150) for who, x in enumerate(seats()) if who], 0

    return {"stand": stand, "walk": walk, "cross": cross, "cut": cut, "same_room": same_room, "leave": leave}


def follow(frames, truth, found, rule):
    """Returns the result of a rule on a scene: faces, switches, fragments, doubtful tracks and covered faces."""
    linker, tracks = rule(), {}
    for (time_s, frame), shown, detections in zip(frames, truth, found, strict=True):
        ids = linker.add(time_s, frame.shape, detections)
        for track_id, detection in zip(ids, detections, strict=True):
            x, y = detection.box.reshape(2, 2).mean(axis=0)
            # The one in front is the last.
            near = [who for who, at_x, at_y in shown if math.hypot(x - at_x, y - at_y) < 0.5 * FACE_PX]
            if near:
                tracks.setdefault(track_id, []).append(near[-1])
    whose = {track_id: Counter(people).most_common(1)[0] for track_id, people in tracks.items()}
    faces = Counter(person for people in tracks.values() for person in people)
    longest = {person: max(n for who, n in whose.values() if who == person) for person, _ in whose.values()}
    return {
        "faces": sum(faces.values()),
        "shown": sum(map(len, truth)),
        "switches": sum(a != b for people in tracks.values() for a, b in pairwise(people)),
        "fragments": len(tracks) - len(longest),
        "doubtful": sum(len(people) <= 3 for people in tracks.values()),
        "covered": sum(longest.values()),
    }


def compare(people, detector, *, counts=(1, 2, 3, 5), rates_hz=(4, 10, 30), seconds=6.0, seed=0):
    """Follows the people of all scenes by each rule.

    Returns:
        `{"rows": [...], "cost": {...}}`: a row a scene and rule; CPU seconds of each step.
    """
    rng, rows, cost = np.random.default_rng(seed), [], Counter()
    settings = Faces(detect="follow")
    for count in counts:
        for name, places in scenes(count).items():
            needed = 2 * count if name in ("cut", "same_room") else count
            if needed > len(people) or (name == "cross" and count < 2):
                continue
            for rate_hz in rates_hz:
                cast = [people[i] for i in rng.permutation(len(people))[:needed]]
                frames, truth = play(cast, places, rate_hz=rate_hz, seconds=seconds, rng=rng)
                start = time.process_time()
                found = [detections for _, _, detections in find_faces(frames, detector, settings.detect)]
                cost["find"] += time.process_time() - start
                measure(frames, found, settings, cost)
                for rule, build in RULES.items():
                    row = {"scene": name, "people": count, "rate_hz": rate_hz, "rule": rule}
                    rows.append(row | follow(frames, truth, found, build))
    return {"rows": rows, "cost": dict(cost)}


def measure(frames, found, settings, cost):
    """Adds to `cost` the seconds that a scene takes to find its cuts, to describe, to link and to cut faces."""
    linker = Tracks()
    dissolves = Dissolves()
    for step in ("scenes", "describe", "link", "cut"):
        start = time.process_time()
        if step == "scenes":
            find_cuts([frame for _, frame in frames])
        for (time_s, frame), detections in zip(frames, found, strict=True):
            if step == "scenes":
                dissolves.add(time_s, frame)
            if step == "link":
                linker.add(time_s, frame.shape, detections)
            for detection in detections:
                if step == "describe":
                    describe_face(frame, detection.landmarks)
                elif step == "cut":
                    cut_face(time_s, frame, settings, detection)
        cost[step] += time.process_time() - start


def total(rows):
    """Returns the sums of rows of one rule, with coverage."""
    names = ("faces", "shown", "switches", "fragments", "doubtful", "covered")
    sums = {name: sum(row[name] for row in rows) for name in names}
    return sums | {"coverage": sums["covered"] / max(sums["faces"], 1)}


def main(
    faces_folder: Annotated[Path | None, typer.Argument()] = None,
    seconds: float = 6.0,
    people: Annotated[list[int], typer.Option()] = [1, 2, 3, 4, 5],  # noqa: B006
    rate_hz: Annotated[list[float], typer.Option()] = [4.0, 10.0, 30.0],  # noqa: B006
    out: Path | None = None,
):
    """Measure who is followed, by the rule of this project and by boxes alone."""
    detector = DETECTORS["mtcnn"](Faces())
    cast = find_people(faces_folder, detector)
    result = compare(cast, detector, counts=people, rates_hz=rate_hz, seconds=seconds)
    result["people"] = len(cast)
    rows = result["rows"]
    groups = {f"scene {name}": [row for row in rows if row["scene"] == name] for name in scenes(2)}
    groups |= {f"{rate:g} frames/s": [row for row in rows if row["rate_hz"] == rate] for rate in rate_hz}
    groups |= {f"{n} people": [row for row in rows if row["people"] == n] for n in people} | {"all": rows}
    print(f"{len(cast)} people to choose from; each cell: boxes alone → tracks")
    print(f"{'':<16}{'faces':>7}{'switches':>14}{'fragments':>14}{'doubtful':>12}{'coverage':>18}")
    for name, group in groups.items():
        if group:
            one, other = (total([row for row in group if row["rule"] == rule]) for rule in RULES)
            cells = [f"{one[cell]} → {other[cell]}" for cell in ("switches", "fragments", "doubtful")]
            cover = f"{one['coverage']:.3f} → {other['coverage']:.3f}"
            print(f"{name:<16}{other['faces']:>7}{cells[0]:>14}{cells[1]:>14}{cells[2]:>12}{cover:>18}")
    cost = result["cost"]
    whole = cost["find"] + cost["link"] + cost["cut"]
    steps = ", ".join(f"{name} {cost[name] / whole:.1%}" for name in ("describe", "link", "scenes", "cut"))
    result["linking_share"] = (cost["describe"] + cost["link"] + cost["scenes"]) / whole
    print(f"of the time to find, link and cut, without decoding: linking {result['linking_share']:.1%} ({steps})")
    if out:
        write_json(out, json.loads(json.dumps(result, default=float)))


if __name__ == "__main__":
    typer.run(main)
