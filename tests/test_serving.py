"""The files in savedmodels/serving/, read as the ModelServer reads them."""

import re
from pathlib import Path

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

from affect.config import Data, load_config
from affect.reading.server import SERVED_FACES, TIMEOUT_S
from affect.tasks.signatures import MAX_JPEGS
from tests.bundled import ROWS

ROOT = Path(__file__).resolve().parents[1]
SERVING = ROOT / "savedmodels" / "serving"

# Those of tensorflow_serving/model_servers/main.cc that matter to us; an unknown one stops the server.
FLAGS = {
    "port", "rest_api_port", "rest_api_num_threads", "rest_api_timeout_in_ms", "enable_batching",
    "batching_parameters_file", "model_config_file", "model_config_file_poll_wait_seconds", "num_load_threads",
    "file_system_poll_wait_seconds", "tensorflow_session_parallelism", "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism", "ssl_config_file", "grpc_channel_arguments", "grpc_max_threads",
    "enable_model_warmup", "num_request_iterations_for_warmup", "monitoring_config_file",
}  # fmt: skip

# Messages that the package tensorflow-serving-api lacks: name → field → (number, type).
INT64, STRING = ".google.protobuf.Int64Value", ".google.protobuf.StringValue"
MESSAGES = {
    # tensorflow_serving/servables/tensorflow/session_bundle_config.proto
    "BatchingParameters": {
        "max_batch_size": (1, INT64),
        "batch_timeout_micros": (2, INT64),
        "max_enqueued_batches": (3, INT64),
        "num_batch_threads": (4, INT64),
        "thread_pool_name": (5, STRING),
        "allowed_batch_sizes": (6, "repeated int64"),
        "pad_variable_length_inputs": (7, "bool"),
    },
    # tensorflow_serving/config/monitoring_config.proto
    "PrometheusConfig": {"enable": (1, "bool"), "path": (2, "string")},
    "MonitoringConfig": {"prometheus_config": (1, ".test.PrometheusConfig")},
}


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((SERVING / "compose.yaml").read_text(encoding="utf-8"))["services"]["serving"]


@pytest.fixture(scope="module")
def flags(compose):
    return dict(flag.removeprefix("--").split("=", 1) for flag in compose["command"])


def read(name, message):
    """Parses a file of `SERVING`; a field that the message does not have is an error."""
    return text_format.Parse((SERVING / name).read_text(encoding="utf-8"), message)


def message(name):
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="test.proto", package="test", syntax="proto3", dependency=["google/protobuf/wrappers.proto"]
    )
    for message_name, fields in MESSAGES.items():
        described = file.message_type.add(name=message_name)
        for key, (number, kind) in fields.items():
            kind, is_repeated = kind.removeprefix("repeated "), kind.startswith("repeated ")
            field = described.field.add(name=key, number=number, label=3 if is_repeated else 1)
            if kind.startswith("."):
                field.type, field.type_name = field.TYPE_MESSAGE, kind
            else:
                field.type = getattr(field, f"TYPE_{kind.upper()}")
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"test.{name}"))()


def test_models_lie_below_the_folder_that_is_mounted():
    config = read("models.config", model_server_config_pb2.ModelServerConfig())
    models = config.model_config_list.config
    assert models
    for model in models:
        assert model.base_path == f"/models/{model.name}"
        assert model.model_platform == "tensorflow"
        assert model.model_version_policy.latest.num_versions == 1


def test_a_full_batch_is_within_the_bounds_of_a_request():
    batching = read("batching.config", message("BatchingParameters"))
    sizes, largest = list(batching.allowed_batch_sizes), batching.max_batch_size.value
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == largest  # The ModelServer demands it.
    configs = [load_config(name).data for name in ROWS]
    frames = max(data.eval_frames for data in (*configs, Data()))
    assert largest * frames <= MAX_JPEGS
    assert largest == SERVED_FACES  # else the server refuses the faces, or batches are not full
    assert not batching.pad_variable_length_inputs
    assert 0 < batching.batch_timeout_micros.value < 1e5


def test_monitoring_is_on_where_its_comment_says():
    monitoring = read("monitoring.config", message("MonitoringConfig")).prometheus_config
    assert monitoring.enable
    assert f"HOST:8501{monitoring.path}." in (SERVING / "monitoring.config").read_text(encoding="utf-8")


def test_the_command_names_flags_and_files_that_there_are(compose, flags):
    assert flags.keys() <= FLAGS
    (volume,) = compose["volumes"]
    assert (SERVING / volume["source"]).resolve() == ROOT / "savedmodels"
    assert volume["read_only"] is True
    for name, value in flags.items():
        if name.endswith("_file"):
            assert (ROOT / "savedmodels" / Path(value).relative_to(volume["target"])).is_file()
    # The file of parameters alone would stop the server.
    assert flags["enable_batching"] == flags["enable_model_warmup"] == "true"
    assert float(flags["rest_api_timeout_in_ms"]) >= TIMEOUT_S * 1000


def test_the_server_is_pinned_and_reached_from_its_own_machine_alone(compose):
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", compose["image"])
    assert compose["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
