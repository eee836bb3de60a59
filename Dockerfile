# merc-pipeline with all its commands, run by an unprivileged user in /work.
#
#   docker build -t merc-pipeline .                                  for a CPU
#   docker build -t merc-pipeline:cuda --build-arg TORCH_INDEX= .    with the CUDA libraries, for a GPU
#   docker run --rm -v "$PWD:/work" --user "$(id -u):$(id -g)" merc-pipeline merc-extract --dataset demo-meld
#
# The folder mounted at /work holds raw/, features/ and, if you have one, params.yaml. Models go to /work/.cache.
# On a GPU: docker run --gpus all ...; the driver comes from the host, the CUDA libraries from torch's wheels.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-bookworm

# Where torch comes from; everything else comes from the package index. Empty: torch comes from there as well, as its
# CUDA build.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# For example: --build-arg EXTRAS=[extract,train]
ARG EXTRAS=[all]

# A failing command in a pipe fails the build.
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# Versions of Debian packages are not pinned: the mirrors keep only a release's newest, so a pin soon breaks the build.
# hadolint ignore=DL3008
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libgl1 libglib2.0-0 git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 merc \
    && mkdir /work && chown merc /work

COPY pyproject.toml constraints.txt README.md LICENSE NOTICE params.yaml /src/
COPY pipeline /src/pipeline
# The versions of torch are in pyproject.toml and constraints.txt; a local version such as +cpu satisfies them.
RUN python -m venv /opt/merc \
    && if [ -n "$TORCH_INDEX" ]; then grep -E '^(torch|torchaudio|torchvision)==' /src/constraints.txt \
         | /opt/merc/bin/pip install --no-cache-dir --quiet --index-url "$TORCH_INDEX" -r /dev/stdin; fi \
    && /opt/merc/bin/pip install --no-cache-dir --quiet --constraint /src/constraints.txt "/src${EXTRAS}" \
    && rm -rf /src

ENV PATH=/opt/merc/bin:$PATH \
    HF_HOME=/work/.cache/huggingface \
    NUMBA_CACHE_DIR=/tmp/numba \
    PYTHONDONTWRITEBYTECODE=1
# By number: Kubernetes' runAsNonRoot cannot check a name.
USER 1000
WORKDIR /work
CMD ["merc-extract", "--help"]
