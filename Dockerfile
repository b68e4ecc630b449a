# rllib_ppg on Ray's official image, for laptops, clusters and SageMaker: docs/containers.md
#
#   docker build -t rllib-ppg:0.1.0-cpu .
#   docker build -t rllib-ppg:0.1.0-cuda --build-arg DEVICE=gpu \
#       --build-arg TORCH_INDEX=https://pypi.org/simple .
#   docker run --rm --shm-size=4g -v "$PWD/results:/results" rllib-ppg:0.1.0-cpu \
#       train -f experiments/ppg_cartpole.yaml --storage-path /results
#
# What a base image of the same tag holds may change; to hold it too, give its digest in the tag's
# place: --build-arg BASE=rayproject/ray@sha256:...

# cpu or gpu; the Python has to be the one that docker/requirements.txt was tried with.
ARG DEVICE=cpu
ARG BASE=rayproject/ray:2.60.0-py311-${DEVICE}
# hadolint ignore=DL3006
FROM ${BASE}

# Builds without CUDA stand in an index of their own; PyPI has the newest CUDA build.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# SageMaker mounts its folders for root: build with --build-arg RUN_AS=0 there.
ARG RUN_AS=1000

LABEL org.opencontainers.image.title="rllib-ppg" \
      org.opencontainers.image.description="Phasic Policy Gradient for Ray RLlib, with Procgen" \
      org.opencontainers.image.licenses="MIT"

ENV PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0

# What Procgen's library wants of the system; Debian and Ubuntu keep no old versions to pin.
USER 0
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
# The user `ray` of Ray's images.
USER 1000

WORKDIR /opt/rllib_ppg

# The layers that are large and change seldom come first.
COPY docker/requirements.txt docker/requirements.txt
RUN pip install --no-cache-dir --no-deps --index-url "${TORCH_INDEX}" \
        "$(grep '^torch==' docker/requirements.txt)"
RUN pip install --no-cache-dir -r docker/requirements.txt

# pip builds beside the source, in a folder that has to be its user's own.
COPY setup.py pyproject.toml README.md LICENSE /tmp/source/
COPY rllib_ppg /tmp/source/rllib_ppg
RUN cp -r /tmp/source /tmp/build \
    && pip install --no-cache-dir --no-deps --no-build-isolation /tmp/build \
    && rm -r /tmp/build

COPY experiments experiments
COPY docker/health.py docker/health.py

USER ${RUN_AS}
RUN python docker/health.py

HEALTHCHECK --interval=5m --timeout=1m --start-period=1m CMD ["python", "/opt/rllib_ppg/docker/health.py"]
ENTRYPOINT ["rllib"]
CMD ["--help"]
