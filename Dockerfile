# The images that k8s/ runs, one target each:
#
#   docker build --target cpu     --tag ghcr.io/tritonrec/tritonrec:0.1.0-cpu .
#   docker build --target gpu     --tag ghcr.io/tritonrec/tritonrec:0.1.0-gpu .
#   docker build --target builder --tag ghcr.io/tritonrec/tritonrec:0.1.0-builder .
#
# They run as user 10001, with a root file system that is only read. For builds that can be repeated, append the
# digests that your registry shows to the tags of the base images.

# What pyproject.toml asks for, without the project itself, so that its code can change without this.
FROM python:3.11.13-slim-bookworm AS cpu-libraries
WORKDIR /src
COPY pyproject.toml LICENSE README.md ./
COPY clients/pyproject.toml clients/README.md clients/
RUN python -m venv /opt/venv \
    && /opt/venv/bin/python -m pip install --no-cache-dir ./clients '.[server,deploy]' \
    && /opt/venv/bin/python -m pip check

# As above, and what turns data into a release; torch without CUDA.
FROM cpu-libraries AS builder-libraries
RUN /opt/venv/bin/python -m pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
        ./clients '.[server,deploy,build]' \
    && /opt/venv/bin/python -m pip check

# Processors: Triton's binary is in a wheel.
FROM python:3.11.13-slim-bookworm AS cpu
# Not pinned: Debian's archive keeps only the newest fix of a version.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libexpat1 libgcc-s1 libstdc++6 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /tmp tritonrec
COPY --from=cpu-libraries /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/tritonrec:/opt/tritonrec/clients \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
WORKDIR /opt/tritonrec
COPY clients clients
COPY python_backend python_backend
COPY model_repository model_repository
COPY tools tools
# Nothing can be written later.
RUN python -m compileall -q --invalidation-mode unchecked-hash clients python_backend tools
USER 10001:10001
EXPOSE 8000 8001 8002
HEALTHCHECK --start-period=5m CMD ["python", "/opt/tritonrec/tools/probe.py", "--ready"]
CMD ["python", "tools/serve_pod.py", "--help"]

# GPUs: NVIDIA's image with its own Triton, TensorRT and Python.
FROM nvcr.io/nvidia/tritonserver:26.03-py3 AS gpu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
COPY pyproject.toml LICENSE README.md ./
COPY clients/pyproject.toml clients/README.md clients/
ENV PIP_BREAK_SYSTEM_PACKAGES=1
# Both are this repository; pyproject.toml says which versions of what they need.
# hadolint ignore=DL3013
RUN python3 -m pip install --no-cache-dir ./clients '.[stages,deploy]' \
    && ln -sf "$(command -v python3)" /usr/local/bin/python \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /tmp tritonrec
ENV TRITONREC_TRITON=/opt/tritonserver \
    PYTHONPATH=/opt/tritonrec:/opt/tritonrec/clients \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
WORKDIR /opt/tritonrec
COPY clients clients
COPY python_backend python_backend
COPY model_repository model_repository
COPY tools tools
RUN python -m compileall -q --invalidation-mode unchecked-hash clients python_backend tools
USER 10001:10001
EXPOSE 8000 8001 8002
HEALTHCHECK --start-period=5m CMD ["python", "/opt/tritonrec/tools/probe.py", "--ready"]
ENTRYPOINT []
CMD ["python", "tools/serve_pod.py", "--help"]

# The jobs: builds, refreshes, rollouts.
FROM cpu AS builder
COPY --from=builder-libraries /opt/venv /opt/venv
CMD ["python", "tools/build_repo.py", "--help"]
