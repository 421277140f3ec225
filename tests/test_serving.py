"""The files in savedmodels/serving/, held to the rules of TensorFlow Serving 2.20.0's sources."""

import re
import subprocess
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from affect.config import Data, load_config
from affect.reading.saved_model import read_saved_model
from affect.reading.server import SERVED_FACES, TIMEOUT_S
from affect.tasks.task import MAX_FACES
from tests.bundled import ROWS
from tests.serving_files import ROOT, SERVING, compose, parse_batching, parse_models, parse_monitoring, text_of
from tests.serving_stub import serve

# All of tensorflow_serving/model_servers/main.cc. With another one the server does not start.
FLAGS = {
    "port", "grpc_socket_path", "rest_api_port", "rest_api_num_threads", "rest_api_timeout_in_ms",
    "rest_api_enable_cors_support", "enable_batching", "allow_version_labels_for_unavailable_models",
    "batching_parameters_file", "enable_per_model_batching_parameters", "model_config_file",
    "model_config_file_poll_wait_seconds", "model_name", "model_base_path", "num_load_threads", "num_unload_threads",
    "max_num_load_retries", "load_retry_interval_micros", "file_system_poll_wait_seconds", "flush_filesystem_caches",
    "tensorflow_session_parallelism", "tensorflow_session_config_file", "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism", "use_alts_credentials", "ssl_config_file", "platform_config_file",
    "per_process_gpu_memory_fraction", "saved_model_tags", "grpc_channel_arguments", "grpc_max_threads",
    "enable_model_warmup", "num_request_iterations_for_warmup", "version", "monitoring_config_file",
    "remove_unused_fields_from_bundle_metagraph", "prefer_tflite_model", "num_tflite_pools",
    "num_tflite_interpreters_per_pool", "enable_signature_method_name_check", "xla_cpu_compilation_enabled",
    "xla_gpu_compilation_enabled", "enable_profiler", "thread_pool_factory_config_file", "mixed_precision",
    "skip_initialize_tpu", "enable_grpc_healthcheck_service", "enable_serialization_as_tensor_content",
}  # fmt: skip


@pytest.fixture(scope="module")
def flags():
    return dict(flag.removeprefix("--").split("=", 1) for flag in compose()["command"])


@pytest.fixture(scope="module")
def clone(flags):
    """What a fresh clone serves: `(models, gRPC address, REST address)`."""
    labels = flags["allow_version_labels_for_unavailable_models"] == "true"
    batching = parse_batching(text_of("batching.config"))
    with serve(ROOT / "savedmodels", parse_models(text_of("models.config")), batching, allow_labels=labels) as served:
        yield served


def check_health(rest_address):
    """Runs the health check of compose.yaml on another port; returns its exit code."""
    kind, *command = compose()["healthcheck"]["test"]
    assert kind == "CMD"
    port = rest_address.rpartition(":")[2]
    command = [word.replace("$$", "$").replace("/8501", f"/{port}") for word in command]
    assert any(port in word for word in command)
    return subprocess.run(command, capture_output=True, check=False, timeout=20).returncode


def test_a_fresh_clone_serves_and_is_healthy(clone):
    models, _, rest_address = clone
    assert {name: sorted(versions) for name, versions in models.models.items()} == {"planted": [1]}
    assert check_health(rest_address) == 0


def test_it_is_not_healthy_without_its_version_or_without_a_server(tmp_path, clone):
    with serve(tmp_path) as (_, _, empty):
        assert check_health(empty) != 0
    assert check_health(empty) != 0


def test_the_server_starts_only_if_labels_may_name_what_is_not_loaded_yet(clone):
    models, _, _ = clone
    with pytest.raises(Exception, match="assign label to version 1 of model planted, which is not currently available"):
        type(models)(models.folder, parse_models(text_of("models.config")))


def test_every_warm_up_request_passes_the_queue(clone):
    """Else the server would not serve the version."""
    models, _, _ = clone
    path = ROOT / "savedmodels" / "planted" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    requests = [prediction_log_pb2.PredictionLog.FromString(record).predict_log.request for record in records]
    for request in requests:
        assert models.run(request).outputs
    artefact = read_saved_model(ROOT / "savedmodels" / "planted" / "1")
    frames = [request.inputs["jpegs"].tensor_shape.dim[1].size for request in requests if "jpegs" in request.inputs]
    assert frames[1:] == artefact.task.served_frames(artefact.experiment) == [8, 16, 32, 64, 120]


def test_models_lie_below_the_folder_that_is_mounted():
    models = parse_models(text_of("models.config")).model_config_list.config
    assert len({model.name for model in models}) == len(models) > 0
    for model in models:
        assert model.base_path == f"/models/{model.name}"
        assert model.model_platform == "tensorflow"
        versions = model.model_version_policy.specific.versions
        assert all(
            (ROOT / "savedmodels" / model.name / str(version) / "saved_model.pb").is_file() for version in versions
        )
        assert set(model.version_labels.values()) <= set(versions)
        assert "stable" in model.version_labels


def test_what_is_commented_out_can_be_put_in():
    text = text_of("models.config")
    canary = [
        line.replace("# ", "")
        for line in text.splitlines()
        if re.match(" +# (model_v|version_l).*(versions: 2|canary)", line)
    ]
    lines = [line for line in text.splitlines() if not re.match(r" +(model_version_policy|version_labels)", line)]
    place = next(number for number, line in enumerate(lines) if "model_platform" in line) + 1
    lines[place:place] = canary
    lines = [re.sub("^  # (?=config|  |})", "  ", line) for line in lines]
    planted, other = parse_models("\n".join(lines)).model_config_list.config
    assert list(planted.model_version_policy.specific.versions) == [1, 2]
    assert dict(planted.version_labels) == {"stable": 1, "canary": 2}
    assert (other.name, other.base_path, dict(other.version_labels)) == ("NAME", "/models/NAME", {"stable": 1})


def test_the_limits_of_requests_fit_what_is_asked():
    batching = parse_batching(text_of("batching.config"))
    most, together = batching.max_batch_size.value, batching.max_execution_batch_size.value
    # Rules of bundle_factory_util.cc and shared_batch_scheduler.h.
    assert batching.enable_large_batch_splitting.value
    assert 1 <= together <= most
    assert not batching.allowed_batch_sizes or batching.allowed_batch_sizes[-1] == most
    assert batching.max_enqueued_batches.value * together >= most  # else a full request never fits
    assert batching.batch_timeout_micros.value >= 0
    configs = [load_config(name).data for name in ROWS] + [Data()]
    assert together * max(data.eval_frames for data in configs) <= MAX_FACES
    assert max(SERVED_FACES, *(data.batch_clips for data in configs if data.frames > 1)) <= most
    # Clips of different lengths may meet in the queue, and the server must not pad them.
    assert together == 1
    assert not batching.pad_variable_length_inputs


def test_monitoring_is_on_where_its_comment_says():
    monitoring = parse_monitoring(text_of("monitoring.config")).prometheus_config
    assert monitoring.enable
    assert f"HOST:8501{monitoring.path}." in text_of("monitoring.config")


def test_the_command_names_flags_and_files_that_there_are(flags):
    assert flags.keys() <= FLAGS
    (volume,) = compose()["volumes"]
    assert (SERVING / volume["source"]).resolve() == ROOT / "savedmodels"
    assert volume["read_only"] is True
    for name, value in flags.items():
        if name.endswith("_file"):
            assert (ROOT / "savedmodels" / Path(value).relative_to(volume["target"])).is_file()
    # The file of parameters alone would stop the server.
    assert flags["enable_batching"] == flags["enable_model_warmup"] == "true"
    assert float(flags["rest_api_timeout_in_ms"]) >= TIMEOUT_S * 1000


def test_the_server_has_as_many_threads_as_cores_and_a_limit_of_memory(flags):
    service, batching = compose(), parse_batching(text_of("batching.config"))
    assert service["cpus"] == int(flags["tensorflow_session_parallelism"]) == batching.num_batch_threads.value
    assert service["mem_limit"] == "4g"


def test_the_server_is_pinned_and_reached_from_its_own_machine_alone():
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", compose()["image"])
    assert compose()["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
