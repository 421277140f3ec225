"""The shards of a folder, as their manifest describes them. TensorFlow is not imported."""

from collections import Counter
from pathlib import Path
from typing import Any

from affect.config import read_json
from affect.data.clips import VERSION
from affect.errors import InputError
from affect.files import check_name, sha256_of


class Shards:
    """The shards of a folder, as its manifest describes them.

    Args:
        folder: The folder that `affect prepare` wrote.
        check_sizes: Whether an incomplete shard, or a clip that the manifest lists twice, is an error.

    Attributes:
        settings: Dict of what changes the records: `records_version`, `faces_version` (absent in shards of version 1),
            `dataset`, `faces`.
        classes: Tuple of class names.
        faces: Dict of the settings with which the faces were cut.
        clips: List of dicts, one for each clip: key, label, subject, split, frames_with_a_face, ...
        shards: List of dicts, one for each shard: name, split, clips, bytes, sha256.
        left_out: List of sentences on files that looked like clips and were left out.

    Raises:
        InputError: When there is no manifest, the records have another version, the name of a shard is no name in the
            folder, a shard is incomplete, or a clip is listed twice.
    """

    def __init__(self, folder: Path | str, *, check_sizes: bool = True) -> None:
        self.folder = Path(folder)
        manifest_path = self.folder / "manifest.json"
        if not manifest_path.is_file():
            raise InputError(f"{folder} holds no manifest.json. Make shards: affect prepare SOURCE --out {folder}")
        _refuse_pointer(manifest_path)
        manifest = read_json(manifest_path)
        try:
            self.settings, version = manifest["settings"], manifest["settings"]["records_version"]
            self.classes, self.clips = tuple(manifest["classes"]), manifest["clips"]
            self.faces, self.shards = self.settings["faces"], manifest["shards"]
            self.left_out = list(manifest.get("left_out", ()))
            sizes = {shard["name"]: shard["bytes"] for shard in self.shards}
            counts = Counter(clip["key"] for clip in self.clips if check_sizes)
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{manifest_path} is not a manifest of shards: {error!r}. Make shards: affect prepare SOURCE --out DIR"
            ) from error
        for name in sizes:
            check_name(name, manifest_path)
        if version != VERSION:
            raise InputError(
                f"{folder} holds records of version {version}; this version of affect reads {VERSION}. "
                f"Prepare it again: affect prepare SOURCE --out {folder} --overwrite"
            )
        for name, size in sizes.items() if check_sizes else ():
            path = self.folder / name
            found = path.stat().st_size if path.is_file() else 0
            if found != size:
                _refuse_pointer(path)
                fault = f"has {found} of {size} bytes" if found else "is missing"
                raise InputError(f"{path} {fault}. Copy it again, or run the same affect prepare with --overwrite.")
        if twice := [key for key, count in counts.items() if count > 1]:
            raise InputError(
                f"{manifest_path} lists the clip {twice[0]!r} {counts[twice[0]]} times. Two outputs of affect prepare "
                "cannot be joined by hand: prepare their videos together."
            )

    def of_split(self, split: str) -> list[dict[str, Any]]:
        """Returns the clips of a split.

        Raises:
            InputError: When the split is unknown. The error lists the splits.
        """
        clips = [clip for clip in self.clips if clip["split"] == split]
        if not clips:
            splits = sorted({clip["split"] for clip in self.clips})
            raise InputError(f"{self.folder} has no split {split!r}. Expected one of {splits}.")
        return clips

    def files(self, split: str) -> list[str]:
        """Returns the paths of a split's shards."""
        return [str(self.folder / shard["name"]) for shard in self.shards if shard["split"] == split]

    def find_damaged(self) -> list[str]:
        """Returns the names of the shards whose SHA-256 differs from the manifest. It reads all shards."""
        return [shard["name"] for shard in self.shards if sha256_of(self.folder / shard["name"]) != shard["sha256"]]


def is_pointer(path: Path | str) -> bool:
    """Returns whether a file is a pointer of Git LFS, the small text that replaces a file until it is fetched."""
    start = b"version https://git-lfs.github.com/spec/"
    if not Path(path).is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(start)) == start


def _refuse_pointer(path: Path | str) -> None:
    if is_pointer(path):
        raise InputError(f"{path} is a Git LFS pointer and not the file itself. Fetch the file: git lfs pull")
