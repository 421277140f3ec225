"""The clips of a data set → their parts, as an Apache Beam pipeline on the runner that its options name.

The extra `beam` (pip install 'affect[beam]') must be installed here and on the workers.
"""

from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from affect.config import Faces
from affect.errors import InputError
from affect.pipelines.datasets.source import Source
from affect.pipelines.detectors import DETECTORS
from affect.pipelines.parts import PART_FACES, outcome_of, write_part


class WritePart(beam.DoFn):
    """Writes the part of a clip.

    Args:
        parts, faces, classes, part_faces: As in `affect.pipelines.parts.write_part`.
    """

    def __init__(self, parts: Path, faces: Faces, classes: Sequence[str], part_faces: int = PART_FACES):
        self.parts, self.faces, self.classes, self.part_faces = parts, faces, classes, part_faces

    def setup(self) -> None:
        """Builds the detector, once in each worker."""
        self.detector = DETECTORS[self.faces.detector](self.faces)

    def process(self, source: Source) -> None:
        """Writes the part of one clip."""
        write_part(source, self.parts, self.faces, self.classes, self.detector, self.part_faces)


def write_parts(
    sources: Sequence[Source],
    parts: Path,
    faces: Faces,
    classes: Sequence[str],
    options: Sequence[str],
    part_faces: int = PART_FACES,
) -> Sequence[Source]:
    """Runs the pipeline to its end.

    Args:
        sources: Clips.
        parts, faces, classes: As in `affect.pipelines.parts.write_part`. All workers must reach `parts` and the videos
            by the same paths.
        options: Beam's options, such as `["--runner=FlinkRunner"]`.
        part_faces: As in `affect.pipelines.parts.write_part`.

    Returns:
        `sources`.

    Raises:
        InputError: When the pipeline fails, or wrote its parts to another folder than `parts` of this machine.
    """
    try:
        with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
            clips = pipeline | beam.Create(sources) | beam.Reshuffle()  # otherwise one worker may get all clips
            clips | beam.ParDo(WritePart(parts, faces, classes, part_faces))
    except Exception as error:  # the runners' errors have no common class
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise InputError(
            f"The Beam pipeline failed: {reason[0]} Finished clips are kept. Run the same command again."
        ) from error
    if missing := [clip.key for clip in sources if not outcome_of(parts, clip).exists()]:
        raise InputError(
            f"The Beam pipeline ended, and {parts} lacks {len(missing)} of {len(sources)} clips ({missing[0]}, ...). "
            "Choose an --out that all workers reach by the same path."
        )
    return sources
