# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV ?= .venv
BIN = $(VENV)/bin
# The tests that also hold on the JAX backend: layers, regularizers, losses, metrics, backbones, models.
# JAX compiles again for each shape, which takes most of the time; without its optimizations it takes 40 % less.
BOTH_BACKENDS = tests/test_*_pooling.py tests/test_frames_reshape.py tests/test_regularizers.py \
	tests/test_backbones.py tests/test_frame_classifier.py tests/test_losses.py tests/test_series_metrics.py \
	tests/test_spatiotemporal_attention.py tests/test_video_networks.py tests/test_network.py tests/test_mask_frames.py \
	tests/test_keras_masks.py tests/test_numbers.py
# These compile whole networks of Keras Applications, so they run on JAX with the slow tests.
BOTH_BACKENDS_LARGE = tests/test_other_backbones.py tests/test_trainable.py

# A process a core; the tests of a file share what they make.
PARALLEL = --numprocesses auto --dist loadfile

.PHONY: demo test test-large test-cluster lint format docs

demo: $(VENV)/demo.stamp
	$(BIN)/affect demo --out demo

test: $(VENV)/test.stamp
	$(BIN)/affect weights get mini_xception
	$(BIN)/pytest $(PARALLEL)
	KERAS_BACKEND=jax JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(BIN)/pytest $(PARALLEL) $(BOTH_BACKENDS)

test-large: $(VENV)/test-large.stamp
	$(BIN)/affect weights get mini_xception
	$(BIN)/pytest -m large $(PARALLEL)
	KERAS_BACKEND=jax JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(BIN)/pytest $(PARALLEL) $(BOTH_BACKENDS_LARGE)
	$(BIN)/python tests/mutants.py --workers $$(nproc)

# Under a real Slurm on loopback, which the script starts and stops.
test-cluster: $(VENV)/test.stamp
	tests/slurm_cluster.sh $(BIN)/python

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tests.check_types

format: $(VENV)/test.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The help of the commands as a document.
docs: $(VENV)/test.stamp
	$(BIN)/python -m tests.write_documents

$(VENV)/demo.stamp: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .[logs,plots,serving,train]
	touch $@

$(VENV)/test.stamp: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .[test]
	touch $@

$(VENV)/test-large.stamp: $(VENV)/test.stamp
	$(BIN)/pip install --quiet --editable .[test-large]
	touch $@
