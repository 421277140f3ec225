"""Named faults of one line, each of which the tests that it names must find.

    python tests/mutants.py            all of them: prints "N mutants, M survivors", and the survivors
    python tests/mutants.py NAME ...   some

A fault is put into a copy of the tree and its tests are run there; the checkout is never touched. The tests must pass
without it, which is seen first. A process is started ready with the libraries for each, so that it takes as long as its
tests. Exit status 1: a fault that no test found, or one whose text is not found exactly once.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("affect", "pipelines", "configs", "tests", "savedmodels", "setup.cfg", "pyproject.toml")
LIBRARIES = (
    "tensorflow",
    "keras",
    "hypothesis",
    "pytest",
    "sklearn.model_selection",
    "scipy.special",
    "cv2",
    "skimage",
)
TIMEOUT_S = 1800
FOUND, MISSED = 1, 0  # exit status of pytest: tests failed; all passed


@dataclass(frozen=True)
class Mutant:
    """A fault.

    Args:
        name: What is wrong.
        file: Path in the tree.
        old: Text that is there exactly once.
        new: Text that replaces it.
        tests: Files or node ids below `tests/`, of which one must fail; the fewer and the quicker the better.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def of(file, *rows):
    """Returns mutants of one file from rows of name, old, new, tests."""
    return tuple(Mutant(name, file, old, new, tests) for name, old, new, *tests in rows)


CLIPS = "test_minimised.py::test_the_loss_of_clips_is_cross_entropy_of_their_logits_and_the_penalty"
RECORDINGS = "test_minimised.py::test_the_loss_of_recordings_is_their_square_error_concordance_and_the_penalty"
DROPOUT = "test_minimised.py::test_dropout_drops_while_it_learns_and_at_no_other_time"

MUTANTS = (
    *of(
        "affect/reading/operations.py",
        (
            "functions of a foreign graph may have any operation",
            "_check_names(path, names, ALLOWED | SAVER_OPERATIONS if is_saver else ALLOWED)",
            "pass",
            "test_foreign_models.py::test_an_operation_that_is_not_ours_is_refused_everywhere",
        ),
        (
            "an object of a foreign model may call what saves variables",
            "in (*calls, *others, objects, rest))",
            "in (*calls, *others, rest))",
            "test_foreign_models.py::test_only_the_loader_calls_what_saves_variables",
        ),
        (
            "an ONNX file may have numbers in another file",
            "if tensor.external_data or tensor.data_location:",
            "if tensor.external_data and not tensor.data_location:",
            "test_foreign_models.py::test_onnx_files_are_checked_before_they_are_loaded",
        ),
    ),
    *of(
        "affect/files.py",
        (
            "the folder above is a name in a folder",
            'or name in ("", ".", "..")',
            'or name in ("", ".")',
            "test_foreign_names.py::test_what_is_no_name_in_a_folder",
        ),
        (
            "an archive may grow to any size",
            "if size > most_bytes:",
            "if size > 1e6 * most_bytes:",
            "test_foreign_models.py::test_a_golden_file_that_grows_is_refused",
        ),
        (
            "two commands share a folder",
            "how = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX",
            "how = fcntl.LOCK_SH",
            "test_systems.py::test_a_lock_ends_with_its_descriptor",
        ),
        (
            "a temporary name is longer than a name may be",
            "while len(os.fsencode(prefix + name)) > LONGEST_NAME:",
            "while len(prefix + name) > LONGEST_NAME:",
            "test_odd_machine.py::test_a_temporary_name_is_not_longer_than_a_name_may_be",
        ),
    ),
    *of(
        "affect/reading/access.py",
        (
            "a token is sent to another machine without encryption",
            "if self.token is not None and not _is_this_machine(host):",
            "if self.token is not None and _is_this_machine(host):",
            "test_lying_server.py::test_access_that_would_not_keep_a_secret",
        ),
        (
            "a compressed answer is unpacked",
            'if response.headers.get("content-encoding", "identity") != "identity":',
            'if response.headers.get("content-encoding", "identity") == "br":',
            "test_lying_server.py::test_a_lie_is_refused_in_one_line[http predict: a gzip bomb]",
        ),
    ),
    *of(
        "affect/reading/tensors.py",
        (
            "a server may answer with NaN",
            'if array.dtype.kind not in "OSbiu" and not np.isfinite(array).all():',
            'if array.dtype.kind not in "OSbiu" and np.isinf(array).any():',
            "test_lying_server.py::test_a_lie_is_refused_in_one_line[http predict: NaN]",
        ),
    ),
    *of(
        "affect/tasks/signatures.py",
        (
            "a request of arrays may have any number of faces",
            "tf.debugging.assert_less_equal(faces, MAX_FACES,",
            "tf.debugging.assert_less_equal(faces, MAX_FACES + 1,",
            "test_export.py::test_a_request_that_the_graph_refuses_is_one_line_in_process",
        ),
    ),
    *of(
        "pipelines/parts.py",
        (
            "a video that changed while it was prepared is not named",
            "if state_of(source.path) not in (before, None):",
            "if before is None:",
            "test_odd_machine.py::test_a_video_that_changes_while_it_is_prepared_is_named",
        ),
    ),
    *of(
        "affect/tasks/answers.py",
        (
            "a clip that fills its bucket is padded to the next one",
            "if size >= len(places))",
            "if size > len(places) or size == 120)",
            "test_requests.py::test_a_clip_is_padded_to_the_next_bucket_and_its_answer_is_the_models",
        ),
        (
            "the largest number of frames is no bucket",
            "if frames < most), most]",
            "if frames <= most)]",
            "test_requests.py::test_the_last_bucket_is_the_largest_number_of_frames",
        ),
    ),
    *of(
        "affect/reading/server.py",
        (
            "over REST a label is not asked for",
            'which = f"/labels/{self.label}"',
            'which = ""',
            "test_requests.py::test_a_version_is_tried_promoted_and_rolled_back_as_the_document_says",
        ),
    ),
    *of(
        "affect/serving/export.py",
        (
            "a server is not warmed up for the lengths that clients send",
            "for size in frames if size <= MAX_FACES]",
            "for size in frames if size > MAX_FACES]",
            "test_export.py::test_warm_up_requests_are_those_of_tf_serving",
        ),
    ),
    *of(
        "affect/data/ranks.py",
        (
            "the rows of a process are those of another one",
            "return rows == self.number",
            "return rows == self.processes - 1 - self.number",
            "test_processes.py::test_each_row_of_a_batch_is_read_by_one_process_in_order",
        ),
    ),
    *of(
        "affect/data/batches.py",
        (
            "each process evaluates all batches",
            "rank.reads_batch(place // data.batch_clips)",
            "rank.reads_batch(rank.number)",
            "test_shards.py::test_processes_evaluate_the_batches_of_one_process",
        ),
    ),
    *of(
        "affect/training/processes.py",
        (
            "processes that differ train together",
            'if changed := list_changes(about, said.get("about")):',
            "if changed := []:",
            "test_processes.py::test_processes_that_differ_say_in_what",
        ),
    ),
    *of(
        "pipelines/claims.py",
        (
            "a process whose claim was taken over goes on",
            "is_lost.set()",
            "pass",
            "test_claims.py::test_a_process_whose_claim_was_taken_over_stops",
        ),
    ),
    *of(
        "pipelines/array.py",
        (
            "a part has the clips of the next one",
            "plan.sources[number - 1 :: shares]",
            "plan.sources[number % shares :: shares]",
            "test_array.py::test_parts_in_any_order_have_the_bytes_of_a_local_run",
        ),
        (
            "a video that changed after its part is joined",
            "if found and not differs(clip, found[0][0], by_hash=False):",
            "if found:",
            "test_array.py::test_what_a_part_lost_is_named_with_its_command_and_made_again[video]",
        ),
    ),
    *of(
        "pipelines/parts.py",
        (
            "a record that lost its end is whole",
            'return examples if sizes == outcome.get("bytes") else []',
            "return examples",
            "test_array.py::test_what_a_part_lost_is_named_with_its_command_and_made_again[short]",
        ),
    ),
    *of(
        "affect/layers/attention_pooling.py",
        (
            "attention over the frames",
            "ops.softmax(scores, axis=-1)",
            "ops.softmax(scores, axis=1)",
            "test_attention_pooling.py::test_two_layers_by_hand",
        ),
        (
            "attention without tanh",
            "scores = ops.tanh(ops.matmul(features, self.kernel))",
            "scores = ops.matmul(features, self.kernel)",
            "test_attention_pooling.py::test_one_layer_by_hand",
        ),
        (
            "hidden layer without tanh",
            "hidden = ops.tanh(",
            "hidden = (",
            "test_attention_pooling.py::test_two_layers_by_hand",
        ),
        (
            "penalty of masked frames",
            "self.diversity_regularizer(attention, frame_mask)",
            "self.diversity_regularizer(attention)",
            CLIPS,
        ),
        (
            "heads and locations exchanged",
            'pooled = ops.matmul(attention, ops.cast(features, "float32"))',
            'pooled = ops.matmul(ops.flip(attention, 2), ops.cast(features, "float32"))',
            "test_attention_pooling.py::test_equals_the_equations",
        ),
        (
            "softmax in half precision",
            'scores = ops.cast(ops.swapaxes(scores, -1, -2), "float32")',
            "scores = ops.swapaxes(scores, -1, -2)",
            "test_attention_pooling.py::test_attention_is_float32_in_half_precision",
        ),
    ),
    *of(
        "affect/layers/shifting_attention_pooling.py",
        (
            "heads of length 1 each",
            "keepdims=True) * self.heads",
            "keepdims=True)",
            "test_shifting_attention_pooling.py::test_by_hand",
        ),
        (
            "no shift",
            "shifted = pooled * scale + offset",
            "shifted = pooled * scale",
            "test_shifting_attention_pooling.py::test_equals_numpy",
        ),
    ),
    *of(
        "affect/layers/joint_softmax_pooling.py",
        (
            "mean of exponentials",
            "logits = ops.log(total + is_empty) + shift[:, 0]",
            "logits = ops.log(total / ops.sum(valid, axis=1) + is_empty) + shift[:, 0]",
            "test_joint_softmax_pooling.py::test_showing_a_clip_twice_shifts_all_logits_by_log_2",
        ),
        (
            "masked frames count as zeros",
            "total = ops.sum(ops.exp((scores - shift) * valid) * valid, axis=1)",
            "total = ops.sum(ops.exp((scores - shift) * valid), axis=1)",
            "test_joint_softmax_pooling.py::test_what_padded_frames_hold_changes_nothing",
        ),
        (
            "importance of masked frames",
            "weights = ops.exp((scores - peak) * valid) * valid",
            "weights = ops.exp((scores - peak) * valid)",
            "test_joint_softmax_pooling.py::test_what_padded_frames_hold_changes_nothing",
        ),
        (
            "minus infinity of an empty clip",
            "is_empty = 1.0 - ops.max(valid, axis=1)",
            "is_empty = 0.0 * ops.max(valid, axis=1)",
            "test_joint_softmax_pooling.py::test_clip_without_a_valid_frame",
        ),
        (
            "large logits overflow",
            "(scores - shift) * valid) * valid, axis=1)",
            "scores * valid) * valid, axis=1)",
            "test_joint_softmax_pooling.py::test_by_hand",
        ),
    ),
    *of(
        "affect/layers/average_score_pooling.py",
        (
            "average over masked frames too",
            "share = valid / ops.maximum(ops.sum(valid, axis=1, keepdims=True), 1.0)",
            "share = valid / valid.shape[1]",
            "test_average_score_pooling.py::test_equals_numpy",
        ),
    ),
    *of(
        "affect/layers/max_score_pooling.py",
        (
            "masked frames win the maximum",
            "candidates = scores + floor * (1.0 - valid)",
            "candidates = scores",
            "test_max_score_pooling.py::test_equals_numpy",
        ),
    ),
    *of(
        "affect/layers/score_pooling.py",
        (
            "mask ignored by the poolings of scores",
            "valid = ops.expand_dims(valid_frames(frame_mask, scores), -1)",
            "valid = ops.expand_dims(valid_frames(None, scores), -1)",
            "test_average_score_pooling.py::test_equals_numpy",
        ),
    ),
    *of(
        "affect/layers/frame_mask.py",
        (
            "masked frames are multiplied by 0",
            "return ops.where(exists, frames, ops.zeros_like(frames))",
            "return frames * ops.cast(exists, frames.dtype)",
            "test_keras_masks.py::test_masked_frames_may_hold_nan",
        ),
        (
            "Keras's mask is dropped",
            "return mask if frame_mask is None else frame_mask",
            "return frame_mask",
            "test_keras_masks.py::test_mask_is_another_name_of_frame_mask",
        ),
        (
            "masks are broadcast",
            "if len(found) != 2 or not is_known:",
            "if len(found) != 2:",
            "test_regularizers.py::test_a_mask_is_of_each_frame",
        ),
    ),
    *of(
        "affect/layers/lstm_pooling.py",
        (
            "masked frames are read",
            'move = ops.cast(ops.equal(row, place), "float32") * ops.expand_dims(valid, 1)',
            'move = ops.cast(ops.equal(row, place), "float32")',
            "test_lstm_pooling.py::test_what_masked_frames_hold_changes_nothing_wherever_they_stand",
        ),
        (
            "last step and not last valid frame",
            "ops.equal(row, count[:, -1:, None])",
            "ops.equal(row, row[:, -1:])",
            "test_lstm_pooling.py::test_equals_numpy",
        ),
    ),
    *of(
        "affect/layers/statistics_pooling.py",
        (
            "variance and not deviation",
            "deviation = ops.where(is_positive, ops.sqrt(ops.where(is_positive, variance, 1.0)), 0.0)",
            "deviation = variance",
            "test_statistics_pooling.py::test_equals_numpy",
        ),
        (
            "masked frames deviate",
            "difference = (features - ops.expand_dims(mean, 1)) * valid",
            "difference = features - ops.expand_dims(mean, 1)",
            "test_statistics_pooling.py::test_equals_numpy",
        ),
    ),
    *of(
        "affect/layers/last_frame_pooling.py",
        (
            "last frame, with a face or not",
            'is_last = valid * ops.cast(ops.equal(count, count[:, -1:]), "float32")',
            'is_last = ops.cast(ops.equal(ops.cumsum(ops.ones_like(valid), axis=1), valid.shape[1]), "float32")',
            "test_last_frame_pooling.py::test_it_is_the_last_valid_frame_whatever_the_others_hold",
        ),
    ),
    *of(
        "affect/layers/spatiotemporal_attention.py",
        (
            "attention sums to 1",
            "ops.softmax(scores, axis=-1) * (height * width)",
            "ops.softmax(scores, axis=-1)",
            "test_spatiotemporal_attention.py::test_attention_to_all_alike_is_1",
        ),
        (
            "masked frames are attended to",
            'attention * ops.cast(valid, "float32")',
            "attention",
            "test_spatiotemporal_attention.py::test_equals_numpy",
        ),
    ),
    *of(
        "affect/regularizers.py",
        ("square of the penalty", "if not self.squared:", "if self.squared:", "test_regularizers.py::test_by_hand"),
        (
            "penalty summed over frames",
            "/ ops.maximum(ops.sum(valid), 1.0)",
            "",
            "test_regularizers.py::test_mean_over_the_valid_frames_of_the_batch",
        ),
        (
            "no diagonal in the penalty",
            'deviation = overlap - ops.eye(attention.shape[-2], dtype="float32")',
            'deviation = overlap * (1 - ops.eye(attention.shape[-2], dtype="float32"))',
            "test_regularizers.py::test_by_hand",
        ),
        (
            "strength ignored",
            "return self.strength * ops.sum(penalty * valid)",
            "return ops.sum(penalty * valid)",
            "test_regularizers.py::test_by_hand",
        ),
    ),
    *of(
        "affect/losses.py",
        (
            "weights of error and concordance exchanged",
            "losses.append((1 - self.weight) * square + self.weight * (1 - ccc(moments, ops)))",
            "losses.append(self.weight * square + (1 - self.weight) * (1 - ccc(moments, ops)))",
            "test_losses.py::test_by_hand",
        ),
        (
            "error summed over frames",
            "square = moments.error / ops.maximum(moments.count, 1e-30)",
            "square = moments.error",
            "test_losses.py::test_by_hand",
        ),
        (
            "frames without a face are learnt from",
            'metrics.valid_values(y_true, y_pred, sample_weight, output, "float32")',
            'metrics.valid_values(y_true, y_pred, None, output, "float32")',
            "test_losses.py::test_equals_numpy_and_leaves_out_what_has_no_weight",
        ),
        (
            "valence alone is learnt",
            "for output in range(y_pred.shape[-1]):",
            "for output in range(1):",
            "test_losses.py::test_equals_numpy_and_leaves_out_what_has_no_weight",
        ),
    ),
    *of(
        "affect/metrics.py",
        (
            "clips without a face out of the denominator",
            '"accuracy": float(metrics.accuracy_score(labels, predictions)),',
            '"accuracy": float(metrics.accuracy_score(labels[predictions >= 0], predictions[predictions >= 0])),',
            "test_metrics.py::test_a_clip_without_a_prediction_is_wrong_and_stands_in_the_last_column",
        ),
        (
            "recall weighted by class sizes",
            '"average": "macro"',
            '"average": "weighted"',
            "test_metrics.py::test_random_clips_against_the_definitions",
        ),
        (
            "classes without a clip in the means",
            'average = {"labels": present,',
            'average = {"labels": [*range(len(classes))],',
            "test_metrics.py::test_classes_without_a_clip_are_left_out_of_the_means",
        ),
        (
            "metric of training forgets weights",
            "self.sums.assign_add(ops.stack([ops.sum(weight * term) for term in terms]))",
            "self.sums.assign_add(ops.stack([ops.sum(term) for term in terms]))",
            "test_series_metrics.py::test_the_metric_leaves_out_what_has_no_weight",
        ),
        (
            "metric of training keeps the last batch",
            "self.sums.assign_add(",
            "self.sums.assign(",
            "test_series_metrics.py::test_the_metric_of_training_gives_the_same",
        ),
    ),
    *of(
        "affect/statistics.py",
        (
            "CCC without the means",
            "whole = moments.label_square + moments.prediction_square + moments.count * apart**2",
            "whole = moments.label_square + moments.prediction_square",
            "test_series_metrics.py::test_by_hand",
        ),
        (
            "half of CCC",
            "return _ratio(2 * moments.product, whole, 1.0, xp)",
            "return _ratio(moments.product, whole, 1.0, xp)",
            "test_series_metrics.py::test_by_hand",
        ),
        (
            "mean square error as RMSE",
            "return xp.sqrt(_ratio(moments.error, moments.count, 0.0, xp))",
            "return _ratio(moments.error, moments.count, 0.0, xp)",
            "test_series_metrics.py::test_by_hand",
        ),
        (
            "concatenation forgets how means differ",
            "label_square=self.label_square + other.label_square + between * dy * dy,",
            "label_square=self.label_square + other.label_square,",
            "test_series_metrics.py::test_equal_their_definitions_however_they_are_cut",
        ),
        (
            "frames that are not valid count",
            "labels, predictions = labels[valid], predictions[valid]",
            "labels, predictions = np.nan_to_num(labels), np.nan_to_num(predictions)",
            "test_series_metrics.py::test_frames_that_are_not_valid_are_left_out_and_counted",
        ),
    ),
    *of(
        "affect/models/network.py",
        (
            "a frozen backbone has dropout",
            "training=training if self.trainable else False",
            "training=training",
            "test_trainable.py::test_a_frozen_backbone_computes_as_in_evaluation",
        ),
    ),
    *of(
        "affect/models/blocks.py",
        (
            "a backbone learns with its head",
            "backbone.trainable = number > 0",
            "backbone.trainable = True",
            "test_trainable.py::test_a_frozen_backbone_computes_as_in_evaluation",
        ),
        (
            "one block too many is frozen",
            "blocks[: len(blocks) - number]",
            "blocks[: len(blocks) - number + 1]",
            "test_train.py::test_first_blocks_are_frozen",
        ),
    ),
    *of(
        "affect/models/frame_classifier.py",
        (
            "penalty dropped from the network",
            "diversity_regularizer=AttentionDiversity(config.diversity),",
            "diversity_regularizer=None,",
            CLIPS,
        ),
        (
            "dropout 0",
            'dropout = keras.layers.Dropout(config.dropout, name="dropout")',
            'dropout = keras.layers.Dropout(0.0, name="dropout")',
            DROPOUT,
        ),
        (
            "dropout left out",
            "frame_logits = classifier(dropout(x))",
            "frame_logits = classifier(x)",
            DROPOUT,
        ),
        (
            "one head",
            "heads=config.heads,",
            "heads=1,",
            "test_frame_classifier.py::test_equals_a_numpy_transcription_from_the_local_features_on",
        ),
        (
            "one layer of attention",
            "hidden_units=config.hidden_units,",
            "hidden_units=None,",
            "test_frame_classifier.py::test_equals_a_numpy_transcription_from_the_local_features_on",
        ),
        (
            "a clip without a face has the classifier's bias",
            "return classifier(dropout(x)) * is_seen",
            "return classifier(dropout(x))",
            "test_frame_classifier.py::test_a_clip_without_frames_says_nothing_where_features_are_pooled",
        ),
    ),
    *of(
        "affect/models/video_networks.py",
        (
            "penalty dropped from the network of recordings",
            "diversity_regularizer=AttentionDiversity(config.diversity),",
            "diversity_regularizer=None,",
            RECORDINGS,
        ),
        (
            "dropout 0 of recordings",
            'return layers.Dropout(config.dropout, name="dropout")(x)',
            'return layers.Dropout(0.0, name="dropout")(x)',
            DROPOUT,
        ),
        (
            "attention added and not multiplied",
            "x = x * ops.cast(ops.expand_dims(attention, -1), x.dtype)",
            "x = x + ops.cast(ops.expand_dims(attention, -1), x.dtype)",
            "test_video_networks.py::test_equals_a_numpy_transcription",
        ),
        (
            "masked frames reach their neighbours",
            "return MaskFrames()(x, frame_mask)",
            "return x",
            "test_video_networks.py::test_masks_batches_and_padding",
        ),
    ),
    *of(
        "affect/models/network.py",
        (
            "faces scaled to 1 are black",
            'if faces is not None and "int" not in',
            'if False and "int" not in',
            "test_network.py::test_one_face_is_pixels_too",
        ),
    ),
    *of(
        "affect/tasks/clips.py",
        (
            "logits taken for probabilities",
            "keras.losses.CategoricalCrossentropy(from_logits=True,",
            "keras.losses.CategoricalCrossentropy(from_logits=False,",
            CLIPS,
        ),
        ("label smoothing ignored", "label_smoothing=train.label_smoothing)", "label_smoothing=0.0)", CLIPS),
        (
            "class weights of the frequent classes",
            "len(counted) / (len(classes) * counts[name])",
            "len(classes) * counts[name] / len(counted)",
            "test_train.py::test_rare_classes_weigh_more",
        ),
        (
            "training on selection clips",
            "train_keys, selection_keys = split_selection(usable, experiment.data.selection_ratio, train.seed)",
            'train_keys = [clip["key"] for clip in usable]; '
            "_, selection_keys = split_selection(usable, experiment.data.selection_ratio, train.seed)",
            "test_train.py::test_run_holds_all_that_is_needed",
        ),
        (
            "clips without a face are learnt from",
            'return [clip for clip in clips if clip["label"] and clip["frames_with_a_face"]]',
            'return [clip for clip in clips if clip["label"]]',
            "test_train.py::test_the_switches_of_the_authors_code_resume_too",
        ),
    ),
    *of(
        "affect/training/train.py",
        ("class weights not passed", "class_weight=training.class_weights,", "class_weight=None,", CLIPS),
        (
            "precision ignored",
            "with use_precision(config.precision):",
            'with use_precision("float32"):',
            "test_minimised.py::test_precision_is_that_of_the_settings",
        ),
        (
            "restart period in epochs",
            "first_decay_steps=config.restart_epochs * steps,",
            "first_decay_steps=config.restart_epochs,",
            "test_train.py::test_learning_rate_restarts",
        ),
        (
            "periods of one length",
            "t_mul=config.restart_factor,",
            "t_mul=1.0,",
            "test_train.py::test_learning_rate_restarts",
        ),
        (
            "backbone at rate 0",
            "groups[paths] = build_group(config.backbone_learning_rate)",
            "groups[paths] = build_group(0.0)",
            "test_train.py::test_two_learning_rates_reach_their_own_variables",
        ),
        (
            "one rate for all",
            "groups[paths] = build_group(config.backbone_learning_rate)",
            "groups[paths] = build_group(config.head_learning_rate)",
            "test_train.py::test_two_learning_rates_reach_their_own_variables",
        ),
        (
            "momentum ignored",
            "return kind(rate, momentum=config.momentum,",
            "return kind(rate, momentum=0.0,",
            "test_golden_optimizers.py::test_same_steps_as_tensorflow_addons",
        ),
        (
            "Nesterov ignored",
            "nesterov=config.nesterov, **shared)",
            "nesterov=False, **shared)",
            "test_golden_optimizers.py::test_same_steps_as_tensorflow_addons",
        ),
        (
            "weight decay ignored",
            "rate, decay = schedule(learning_rate), config.weight_decay",
            "rate, decay = schedule(learning_rate), 0.0",
            "test_golden_optimizers.py::test_same_steps_as_tensorflow_addons",
        ),
        (
            "accumulation ignored",
            "accumulated = config.accumulation_steps if config.accumulation_steps > 1 else None",
            "accumulated = None",
            "test_train.py::test_accumulated_batches_are_one_step",
        ),
        (
            "best = worst epoch",
            "return max(range(len(rows)), key=lambda index: (score(rows[index]), -index))",
            "return min(range(len(rows)), key=lambda index: (score(rows[index]), -index))",
            "test_checkpoint.py",
        ),
        ("best by the highest loss", 'else -row["val_loss"]', 'else row["val_loss"]', "test_checkpoint.py"),
        (
            "of equal epochs the last",
            "(score(rows[index]), -index))",
            "(score(rows[index]), index))",
            "test_checkpoint.py",
        ),
        (
            "the first epoch is kept where none is selected",
            "return len(rows) - 1\n",
            "return 0\n",
            "test_checkpoint.py",
        ),
    ),
    *of(
        "affect/tasks/recordings.py",
        ("concordance ignored", "ConcordanceLoss(train.concordance)", "ConcordanceLoss(0.0)", RECORDINGS),
        (
            "the whole window is learnt where its end is predicted",
            'as_learnt = at_end if config.predicts == "end" else lambda *window: window',
            "as_learnt = lambda *window: window",
            RECORDINGS,
        ),
        (
            "training on selection recordings",
            "training = [recording for recording in usable if recording.name not in selected]",
            "training = usable",
            "test_minimised.py::test_a_recording_that_selects_is_not_learnt",
        ),
    ),
    *of(
        "affect/training/optimizers.py",
        (
            "decay beside the momentum",
            "gradient = ops.cast(gradient, variable.dtype) + decay * variable",
            "gradient = ops.cast(gradient, variable.dtype)",
            "test_golden_optimizers.py::test_pytorchs_steps_on_request",
        ),
    ),
    *of(
        "affect/data/batches.py",
        (
            "frames unsorted",
            "chosen, number = tf.sort(chosen), epoch",
            "chosen, number = chosen, epoch",
            "test_shards.py::test_training_frames_are_drawn_without_replacement_in_time_order",
        ),
        (
            "the first frames always",
            "chosen = tf.argsort(tf.random.stateless_uniform([total], draw))[: data.frames]",
            "chosen = tf.range(total)[: data.frames]",
            "test_shards.py::test_every_frame_is_drawn_as_often",
        ),
        (
            "subjects leak between selection and training",
            'subjects = [clip["subject"] or clip["recording"] for clip in clips]',
            "subjects = keys",
            "test_shards.py::test_no_subject_is_both_trained_on_and_selected_by",
        ),
        (
            "parts of a recording leak",
            'clip["subject"] or clip["recording"] for',
            'clip["subject"] or clip["key"] for',
            "test_shards.py::test_no_recording_is_both_trained_on_and_selected_by",
        ),
        (
            "the same selection for any seed",
            "shuffle=True, random_state=seed)",
            "shuffle=True, random_state=0)",
            "test_shards.py::test_the_selection_is_a_function_of_the_seed",
        ),
        (
            "unwanted clips are trained on",
            "clips = _keep_known(clips, len(keys))\n        order",
            "order",
            "test_shards.py::test_only_the_wanted_clips_are_trained_on",
        ),
        (
            "the same order in each epoch",
            "order = tf.random.stateless_uniform([], draw, maxval",
            "order = tf.random.stateless_uniform([], [seed, 0], maxval",
            "test_shards.py::test_a_clip_is_seen_at_most_once_an_epoch_and_in_another_order_in_each",
        ),
        (
            "padding is not masked",
            "mask = tf.pad(tf.ones_like(chosen, tf.bool), [[0, padding]])",
            "mask = tf.pad(tf.ones_like(chosen, tf.bool), [[0, padding]], constant_values=True)",
            "test_shards.py::test_short_clips_are_padded_with_black_frames_that_are_masked",
        ),
        (
            "votes in the order of the shards",
            "votes = tf.gather(votes, [voted.index(name) for name in classes])",
            "votes = votes[: len(classes)]",
            "test_shards.py::test_soft_labels_are_the_votes_in_the_order_of_the_models_classes",
        ),
        (
            "random crops in evaluation",
            "view = central_view(data.crop_ratio)\n        return _decode",
            "view = random_views(data, tf.constant([0, 0]), chosen)\n        return _decode",
            "test_shards.py::test_one_clip_in_memory_is_seen_as_it_is_in_shards",
        ),
        (
            "one view for all clips",
            "return tf.stack([seed * 1_000_003 + epoch, index]) + tf.constant([0, 2**30])",
            "return tf.constant([seed, 2**30])",
            "test_shards.py::test_all_frames_of_a_clip_have_one_view",
        ),
    ),
    *of(
        "affect/data/augment.py",
        (
            "degrees taken for radians",
            "limit_rad = data.rotation_deg * 3.141592653589793 / 180",
            "limit_rad = data.rotation_deg",
            "test_augment.py::test_random_views_fill_their_ranges",
        ),
        (
            "upside down",
            "cv2.flip(face, 1)",
            "cv2.flip(face, 0)",
            "test_augment.py::test_a_flip_mirrors_left_and_right",
        ),
        (
            "mirrored always",
            "tf.logical_and(data.flip, draw[2] < 0.5)",
            "tf.logical_and(data.flip, draw[2] < 1.5)",
            "test_augment.py::test_random_views_fill_their_ranges",
        ),
        (
            "crop at random whatever is asked",
            '"offset": draw[:2] if data.random_crop else',
            '"offset": draw[:2] if True else',
            "test_augment.py::test_a_crop_that_is_not_random_is_central_and_changes_no_other_draw",
        ),
    ),
    *of(
        "affect/data/views.py",
        (
            "floored frame spacing",
            "return np.rint(places).astype(np.int32)",
            "return np.floor(places).astype(np.int32)",
            "test_shards.py::test_evenly_spaced_by_hand",
        ),
    ),
    *of(
        "affect/data/windows.py",
        (
            "windows in the same order in each epoch",
            "np.random.default_rng([seed, epoch])",
            "np.random.default_rng([seed, 0])",
            "test_windows.py::test_training_is_a_function_of_the_seed_and_the_epoch",
        ),
        (
            "the end is the last frame, with a face or not",
            'last = frames - 1 - tf.argmax(tf.reverse(inputs["frame_mask"], [1]), axis=1, output_type=tf.int32)',
            'last = (frames - 1) * tf.ones_like(tf.argmax(inputs["frame_mask"], axis=1, output_type=tf.int32))',
            "test_windows.py::test_the_label_of_the_end_is_that_of_the_last_face",
        ),
    ),
    *of(
        "affect/data/recordings.py",
        (
            "ratings before the face",
            "values = np.interp(times_s + delay_s,",
            "values = np.interp(times_s - delay_s,",
            "test_windows.py::test_a_window_by_hand",
        ),
        (
            "labels at the grid and not at the face",
            "np.where(is_near, recording.times_s[nearest], grid_s)",
            "grid_s",
            "test_windows.py::test_a_face_off_the_grid_is_labelled_by_its_own_time",
        ),
        (
            "a face however far away",
            "is_near = distance_s.min(axis=0) <= 0.5 / config.frame_rate_hz + 1e-6",
            "is_near = distance_s.min(axis=0) <= 5 / config.frame_rate_hz + 1e-6",
            "test_windows.py::test_a_window_by_hand",
        ),
        (
            "ratings held beyond their end",
            "& (rated_s <= last_s + 1e-6)",
            "",
            "test_windows.py::test_beyond_the_series_there_is_no_label",
        ),
        (
            "frames without a face count in the loss",
            "return (self.frame_mask & self.is_rated).astype(np.float32)",
            "return self.is_rated.astype(np.float32)",
            "test_windows.py::test_a_window_by_hand",
        ),
    ),
    *of(
        "affect/tasks/delay.py",
        (
            "persons are judged by themselves",
            "predictions[held_out] = probe.fit(views[fitted], labels[fitted]).predict(views[held_out])",
            "predictions[held_out] = probe.fit(views, labels).predict(views[held_out])",
            "test_delay.py::test_one_person_says_nothing_of_another",
        ),
        (
            "the worst delay",
            "return max(scores, key=lambda delay_s: (scores[delay_s], -delay_s)), scores",
            "return min(scores, key=lambda delay_s: (scores[delay_s], -delay_s)), scores",
            "test_delay.py::test_finds_the_delay_among_all_steps_of_the_ratings_up_to_6_s",
        ),
        (
            "views with the person's own level",
            "views.append(view - view.mean(axis=0))",
            "views.append(view)",
            "test_delay.py::test_finds_the_delay_among_all_steps_of_the_ratings_up_to_6_s",
        ),
        (
            "delays up to 3 s",
            "LONGEST_S = 6.0",
            "LONGEST_S = 3.0",
            "test_delay.py::test_finds_the_delay_among_all_steps_of_the_ratings_up_to_6_s",
        ),
    ),
    *of(
        "affect/tasks/postprocessing.py",
        (
            "shift the other way",
            "values = np.interp(at_s - self.shift_s, at_s, values)",
            "values = np.interp(at_s + self.shift_s, at_s, values)",
            "test_postprocessing.py::test_steps_by_hand",
        ),
        (
            "offset before the scale",
            "values = self.scale * values + self.offset",
            "values = self.scale * (values + self.offset)",
            "test_postprocessing.py::test_steps_by_hand",
        ),
        (
            "median twice as wide",
            "starts = np.searchsorted(times_s, times_s - width_s / 2 - 1e-6)",
            "starts = np.searchsorted(times_s, times_s - width_s - 1e-6)",
            "test_postprocessing.py::test_steps_by_hand",
        ),
        (
            "frames without a face in the median",
            "valid = np.asarray(weights) > 0\n        if valid.any():",
            "valid = np.asarray(weights) > -1\n        if valid.any():",
            "test_postprocessing.py::test_masked_frames_are_not_read_and_stay",
        ),
        (
            "a step that lowers the CCC is kept",
            "best = max(best, (score(steps), steps), key=lambda pair: pair[0])",
            "best = (score(steps), steps)",
            "test_postprocessing.py::test_a_step_that_gains_nothing_is_left_out",
        ),
        (
            "scaling by variances",
            "ratio = float(labels.std() / values.std()) if values.std() else 1.0",
            "ratio = float(labels.var() / values.var()) if values.std() else 1.0",
            "test_postprocessing.py::test_a_planted_offset_scale_and_shift_are_found",
        ),
        (
            "centring without the mean",
            "offset=steps.offset + float(labels.mean() - apply(steps).mean()))",
            "offset=steps.offset + float(labels.mean()))",
            "test_postprocessing.py::test_a_planted_offset_scale_and_shift_are_found",
        ),
    ),
    *of(
        "affect/tasks/clips.py",
        (
            "clips without a face are not counted",
            '"all": classification_metrics(labels, predictions, trained.classes),',
            '"all": classification_metrics(labels[seen], predictions[seen], trained.classes),',
            "test_evaluate.py::test_no_clip_is_dropped",
        ),
    ),
)


def mutated(mutant, root=ROOT):
    """Returns the text of the mutant's file with its fault.

    Raises:
        ValueError: Where its old text is not there exactly once.
    """
    text = (Path(root) / mutant.file).read_text(encoding="utf-8")
    if (count := text.count(mutant.old)) != 1:
        raise ValueError(f"{mutant.name}: {mutant.file} has its text {count} times, and not once: {mutant.old!r}")
    return text.replace(mutant.old, mutant.new)


def copy_tree(tree):
    """Copies into a folder what the tests need, so that `affect` is whole there and not partly the checkout's."""
    tree.mkdir()
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    for name in ("configs", "pipelines"):
        (tree / "affect" / name).symlink_to(tree / name)  # as setup.cfg maps them


def run_tests(tree, tests, output):
    """Runs tests of a tree in this process, which then ends with pytest's exit status."""
    os.chdir(tree)
    os.environ["PYTHONPATH"], sys.dont_write_bytecode = str(tree), True
    sys.path[:] = [str(tree)] + [path for path in sys.path if Path(path or ".").resolve() not in (ROOT, ROOT / "tests")]
    with open(output, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import hypothesis
    import pytest

    # A slow machine finds no fault, and the smallest example of one, which may take minutes, is of no use here.
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutants", deadline=None, phases=phases)
    hypothesis.settings.load_profile("mutants")
    arguments = [
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "not large",
        "--basetemp",
        str(Path(output).with_suffix("")),
    ]
    os._exit(int(pytest.main([*arguments, *(f"tests/{test}" for test in tests)])))


def status_of(context, tree, tests, output):
    """Returns pytest's exit status of tests of a tree, run in a process of their own; `None` where they did not end."""
    process = context.Process(target=run_tests, args=(str(tree), tests, str(output)))
    process.start()
    process.join(TIMEOUT_S)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    return process.exitcode


def judge(context, mutant, trees, scratch):
    """Returns what became of a mutant: `None` where a test found it, else why it did not."""
    tree, output = trees.get(), scratch / f"{mutant.name.replace(' ', '-')}.txt"
    path = tree / mutant.file
    before = path.read_text(encoding="utf-8")
    try:
        path.write_text(mutated(mutant, tree), encoding="utf-8")
        status = status_of(context, tree, mutant.tests, output)
    except ValueError as error:
        return str(error)
    finally:
        path.write_text(before, encoding="utf-8")
        trees.put(tree)
    if status == FOUND:
        return None
    if status == MISSED:
        return f"{mutant.name}: survives {', '.join(mutant.tests)}"
    last = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    return f"{mutant.name}: its tests did not run (exit status {status}): {''.join(last)}"


def judge_whole(context, mutants, trees, scratch):
    """Returns `None` where the tests of all mutants pass without a fault, else what they say."""
    tree, output = trees.get(), scratch / "without-a-fault.txt"
    tests = tuple(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
    status = status_of(context, tree, tests, output)
    trees.put(tree)
    if status == MISSED:
        return None
    return f"The tests do not pass without a fault: {output.read_text(encoding='utf-8', errors='replace')[-2000:]}"


def main(names=(), workers=2):
    """Runs mutants, all or those of these names; returns how many were not found."""
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    if unknown := set(names) - {mutant.name for mutant in MUTANTS}:
        sys.exit(f"No mutants {sorted(unknown)}.")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LIBRARIES))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    columns = (*columns, TimeElapsedColumn(), TimeRemainingColumn())
    with tempfile.TemporaryDirectory() as folder, Progress(*columns, console=Console(stderr=True)) as progress:
        scratch, trees = Path(folder), Queue()
        for index in range(workers):
            tree = scratch / f"tree-{index}"
            copy_tree(tree)
            trees.put(tree)
        task, survivors = progress.add_task("mutants", total=len(chosen) + 1), []
        with ThreadPoolExecutor(workers) as pool:
            jobs = [pool.submit(judge_whole, context, chosen, trees, scratch)]
            jobs += [pool.submit(judge, context, mutant, trees, scratch) for mutant in chosen]
            for done in as_completed(jobs):
                if reason := done.result():
                    survivors.append(reason)
                    progress.console.print(reason, markup=False, highlight=False)
                progress.advance(task)
                if not progress.console.is_terminal:
                    print(f"{progress.tasks[-1].completed:.0f} of {len(jobs)} done", file=sys.stderr, flush=True)
    print(f"{len(chosen)} mutants, {len(survivors)} survivors", *survivors, sep="\n")
    return len(survivors)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run the named faults that the tests must find.")
    parser.add_argument("names", nargs="*", help="Names of mutants; all if none is given.")
    parser.add_argument("--workers", type=int, default=2, help="Mutants at a time.")
    arguments = parser.parse_args()
    sys.exit(1 if main(arguments.names, arguments.workers) else 0)
