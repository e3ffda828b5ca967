# Every target does the set-up it needs; `make help` lists them. Settings, on the command line:
#   PYTHON  the interpreter to start from (default: the first Python 3.10-3.12 on the PATH)
#   VENV    the environment to make and use
#   JOBS    how many processes test
VENV ?= .venv
OPENMMLAB ?= requirements/openmmlab.txt
SUPPORTED = import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(firstword $(foreach python,python3 python3.12 python3.11 python3.10,\
	$(shell $(python) -c '$(SUPPORTED)' 2>/dev/null && echo $(python))))
PY = $(VENV)/bin/python
DATA = data/shapes_vis
# The version of ShapesVIS that the configs name.
MAKE_SHAPES = $(PY) tools/dataset_converters/make_shapes_vis.py \
	--version $$(sed -n 's/^_version = //p' configs/_base_/datasets/shapes.py)

.PHONY: help setup quickstart web test test-gpu test-openmmlab lint docs weights clean
.NOTPARALLEL:
.DEFAULT_GOAL := help

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  \1: /p' Makefile | sed 's/^  \([^:]*\): /  make \1\t/' | expand -t 24

setup:  ## the environment in .venv; does nothing when it is up to date
	@python='$(PYTHON)'; if [ -z "$$python" ]; then \
		echo 'no Python 3.10, 3.11 or 3.12 (with its venv module) found: install one, or name' \
			'it with PYTHON=/path/to/python3.11' >&2; exit 1; fi; \
	"$$python" tools/setup_env.py --venv $(VENV) --openmmlab $(OPENMMLAB)

$(DATA)/valid.json: | setup
	$(MAKE_SHAPES) --out $(DATA)

# Trains MaskProp on the generated ShapesVIS from the shipped detector weights, scores it with the
# YouTube-VIS protocol and paints its tracks on a validation video.
CONFIG = configs/maskprop/maskprop_r18_shapes.py
RUN = work_dirs/quickstart

quickstart: setup $(DATA)/valid.json  ## train MaskProp, score it, paint its tracks on a video
	$(PY) tools/train.py $(CONFIG) --work-dir $(RUN) --resume \
		--cfg-options train_cfg.val_begin=1000000  # tools/test.py scores it
	$(PY) tools/test.py $(CONFIG) "$$(cat $(RUN)/last_checkpoint)" --work-dir $(RUN)/test \
		--out $(RUN)/results.json
	video=$$(ls -d $(DATA)/valid/JPEGImages/* | head -n 1); \
		$(PY) demo/video_demo.py "$$video" $(CONFIG) "$$(cat $(RUN)/last_checkpoint)" \
		--out $(RUN)/tracks.mp4
	@echo 'The tracks on a validation video: $(RUN)/tracks.mp4'
	@echo 'The submission file: $(RUN)/results.json; the AP table is above and in $(RUN)/test'

web: setup  ## a page that segments uploaded videos: http://127.0.0.1:7860
	$(PY) demo/web_demo.py

# One thread for each process: more gain little on the tests' small inputs.
JOBS ?= 2
test: setup  ## all tests, on CPU, in JOBS processes (2)
	OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES= $(PY) -m pytest -q -n $(JOBS) --dist worksteal tests

test-gpu: setup  ## the tests that need a GPU
	$(PY) -m pytest -q tests/test_cuda.py

test-openmmlab:  ## all tests over the original OpenMMLab line, in .venv-openmmlab
	$(MAKE) test VENV=.venv-openmmlab OPENMMLAB=requirements/openmmlab-original.txt

lint: setup  ## ruff's checks and formatting
	$(PY) -m ruff check
	$(PY) -m ruff format --check

# An environment of its own, on Python 3.11 or 3.12: it needs neither PyTorch nor MMDetection.
.venv-docs/made: requirements/docs.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet -r $<
	touch $@

docs: .venv-docs/made  ## the documentation site, in build/docs
	.venv-docs/bin/mkdocs build --strict

# $(call train_and_publish,CONFIG,NAME): trains a config and publishes weights/NAME.pth with its
# provenance. A copy stays beside the training until all weights are made, so that after an
# interruption `make weights` goes on with the training that it fell into.
define train_and_publish
if cmp -s weights/$(2).pth work_dirs/weights/$(2)/published.pth; then \
	echo 'weights/$(2).pth is done; to train it again, remove work_dirs/weights/$(2)'; \
else \
	start=$$(date +%s); \
	$(PY) tools/train.py $(1) --work-dir work_dirs/weights/$(2) && \
	seconds=$$(($$(date +%s) - start)) && \
	checkpoint=$$(cat work_dirs/weights/$(2)/last_checkpoint) && \
	rm -rf work_dirs/weights/$(2)/test && \
	$(PY) tools/test.py $(1) "$$checkpoint" --work-dir work_dirs/weights/$(2)/test && \
	$(PY) tools/model_converters/publish_weights.py "$$checkpoint" weights/$(2).pth \
		--command 'tools/train.py $(1)' --seconds $$seconds \
		--metrics work_dirs/weights/$(2)/test && \
	cp weights/$(2).pth work_dirs/weights/$(2)/published.pth; \
fi
endef

# More training videos for the detector; the validation videos are the same.
$(DATA)_large/valid.json: | setup
	$(MAKE_SHAPES) --out $(DATA)_large --videos 1200

weights: setup $(DATA)/valid.json $(DATA)_large/valid.json  ## train the shipped weights again (hours on two cores)
	$(call train_and_publish,configs/mask_rcnn/mask_rcnn_r18_shapes.py,mask_rcnn_r18_shapes)
	$(call train_and_publish,configs/maskprop/maskprop_r18_shapes.py,maskprop_r18_shapes)
	$(call train_and_publish,configs/stmask/stmask_r18_image_shapes.py,stmask_r18_image_shapes)
	$(call train_and_publish,configs/stmask/ablations/stmask_r18_fca-image_shapes.py,stmask_r18_fca-image_shapes)
	$(call train_and_publish,configs/stmask/ablations/stmask_r18_baseline-image_shapes.py,stmask_r18_baseline-image_shapes)
	$(call train_and_publish,configs/stmask/stmask_r18_shapes.py,stmask_r18_shapes)
	$(call train_and_publish,configs/efficientvis/efficientvis_r18_image_shapes.py,efficientvis_r18_image_shapes)
	$(call train_and_publish,configs/efficientvis/efficientvis_r18_shapes.py,efficientvis_r18_shapes)
	$(call train_and_publish,configs/mssts/seqformer_r18_image_shapes.py,seqformer_r18_image_shapes)
	$(call train_and_publish,configs/mssts/mssts_r18_shapes.py,mssts_r18_shapes)
	rm -f work_dirs/weights/*/published.pth  # the next time all are trained anew

clean:  ## remove the environments and caches; data/ and work_dirs/ stay
	rm -rf .venv .venv-openmmlab .venv-docs build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -path ./data -prune -o -path ./work_dirs -prune -o -name __pycache__ -type d \
		-exec rm -rf {} +
