"""The clips of a data set → their parts, as an Apache Beam pipeline on whatever runner its options name.

Needs the extra `beam` (pip install 'affect[beam]'), also on the workers.
"""

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from affect.errors import InputError
from affect.pipelines.detectors import DETECTORS
from affect.pipelines.parts import outcome_of, write_part


class WritePart(beam.DoFn):
    """Writes the part of a clip; see `affect.pipelines.parts.write_part` for the arguments."""

    def __init__(self, parts, faces, classes):
        self.parts, self.faces, self.classes = parts, faces, classes

    def setup(self):
        self.detector = DETECTORS[self.faces.detector](self.faces)

    def process(self, source):
        write_part(source, self.parts, self.faces, self.classes, self.detector)


def write_parts(sources, parts, faces, classes, options):
    """Runs the pipeline to its end.

    Args:
        sources: List of `affect.pipelines.datasets.source.Source`.
        parts, faces, classes: As in `affect.pipelines.parts.write_part`. All workers must reach `parts` and the videos
            by the same paths.
        options: List of Beam's options, such as `["--runner=FlinkRunner"]`.

    Returns:
        `sources`.

    Raises:
        InputError: When the pipeline fails, or wrote its parts to another folder than `parts` of this machine.
    """
    try:
        with beam.Pipeline(options=PipelineOptions(options)) as pipeline:
            clips = pipeline | beam.Create(sources) | beam.Reshuffle()  # else one worker may get them all
            clips | beam.ParDo(WritePart(parts, faces, classes))
    except Exception as error:  # the runners' errors have nothing in common
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise InputError(
            f"The Beam pipeline failed: {reason[0]} The clips that were done are kept: run the same command again."
        ) from error
    if missing := [clip.key for clip in sources if not outcome_of(parts, clip).exists()]:
        raise InputError(
            f"The Beam pipeline ended, and {parts} lacks {len(missing)} of {len(sources)} clips ({missing[0]}, ...). "
            "Choose an --out that all workers reach by the same path."
        )
    return sources
