"""The files for Kubernetes, KServe and Triton, which are not run here, against the schemas of their makers."""

import importlib.util
from pathlib import Path

import pytest
import yaml

SERVING = Path(__file__).parents[1] / "savedmodels" / "serving"
pytestmark = pytest.mark.large


@pytest.fixture(autouse=True)
def needs_clients():
    for name in ("kserve", "kubernetes", "tritonclient"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install affect[test-large]")


def check(value, kind):
    """Checks a document against a model of KServe's client; what it takes from Kubernetes, against that client."""
    import kubernetes.client
    from kserve import models

    if kind in ("str", "int", "bool"):
        assert type(value).__name__ == kind
    elif kind.startswith("V1beta1"):
        model = getattr(models, kind)
        fields = {json: name for name, json in model.attribute_map.items()}
        assert set(value) <= set(fields), set(value) - set(fields)
        model(**{fields[key]: item for key, item in value.items()})  # raises where a required field is missing
        for key, item in value.items():
            check(item, model.openapi_types[fields[key]])
    else:
        getattr(kubernetes.client, kind).model_validate(value)


def test_kubernetes():
    from kubernetes.client import V1Deployment, V1Service

    deployment, service = yaml.safe_load_all((SERVING / "kubernetes.yaml").read_text())
    V1Deployment.model_validate(deployment)
    V1Service.model_validate(service)
    compose = yaml.safe_load((SERVING / "compose.yaml").read_text())["services"]["serving"]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == compose["image"]
    assert container["args"] == compose["command"]
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]


def test_kserve():
    service = yaml.safe_load((SERVING / "kserve" / "inference_service.yaml").read_text())
    check(service, "V1beta1InferenceService")
    service["spec"]["predictor"]["model"]["storageuri"] = "pvc://models"
    with pytest.raises(AssertionError, match="storageuri"):
        check(service, "V1beta1InferenceService")


def test_triton():
    from google.protobuf import text_format

    # The package itself would register messages of the same names as kserve's.
    package = Path(importlib.util.find_spec("tritonclient").submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location("model_config_pb2", package / "grpc" / "model_config_pb2.py")
    model_config_pb2 = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(model_config_pb2)
    config = text_format.Parse((SERVING / "triton" / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert config.backend == "onnxruntime"
    assert max(config.dynamic_batching.preferred_batch_size) <= config.max_batch_size
    assert config.version_policy.latest.num_versions == 2
