# syntax=docker/dockerfile:1
#
#   docker build -t tessera .                                   processors
#   docker build -t tessera:gpu --build-arg ONNXRUNTIME=gpu .   NVIDIA GPUs
#   docker run --read-only --tmpfs /tmp -p 50051:50051 -p 127.0.0.1:9090:9090 tessera
#
# `make replay-dockerfile` runs these steps where there is no container engine. docs/operations.md explains.

# The patch level floats, so that a rebuild brings fixes of Python and Debian; give a digest to repeat a build.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS python
# Machine code for every processor of this architecture, not for the one that built the image.
ENV NUMBA_CPU_NAME=generic \
    NUMBA_CACHE_DIR=/opt/tessera/machine-code \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1

FROM python AS build
# cpu or gpu: which ONNX Runtime.
ARG ONNXRUNTIME=cpu
WORKDIR /build
COPY deploy/requirements requirements
# Without pip in the environment: what serves needs no installer.
RUN python -m venv --without-pip /opt/tessera \
    && python -m pip --python /opt/tessera/bin/python install --no-cache-dir --only-binary=:all: --require-hashes \
        -r "requirements/${ONNXRUNTIME}.txt" \
    && python -m venv /build/tools \
    && /build/tools/bin/pip install --no-cache-dir --only-binary=:all: --require-hashes \
        -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY proto proto
COPY training training
COPY serving serving
COPY tokenizer tokenizer
RUN /build/tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /build/dist . \
    && python -m pip --python /opt/tessera/bin/python install --no-cache-dir --no-deps --no-index /build/dist/*.whl
COPY deploy/compile_machine_code.py .
# -P: numba files code by the place of its source, so this must be the installed package, not the one beside it.
RUN /opt/tessera/bin/python -P compile_machine_code.py

FROM python AS run
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tessera" \
      org.opencontainers.image.description="Adaptive image tokenizer as a gRPC service" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/tessera /opt/tessera
# The wheels of CUDA lie where the loader does not look; for processors this list is empty.
RUN find /opt/tessera/lib -type d -path '*/nvidia/*/lib' > /etc/ld.so.conf.d/tessera.conf && ldconfig
# /tmp is all that is ever written to: on a read-only root file system, mount a tmpfs there.
ENV PATH=/opt/tessera/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TESSERA_HOST=0.0.0.0 \
    TESSERA_METRICS_HOST=0.0.0.0 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# By number: Kubernetes cannot tell from a name that it is not root.
USER 10001:10001
WORKDIR /tmp
EXPOSE 50051 9090
STOPSIGNAL SIGTERM
# Over HTTP on the port of the metrics: it needs no certificate and no key, whatever the RPC port asks for.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('TESSERA_METRICS_PORT', 9090)}/readyz\", timeout=3)"]
# In exec form, so that the server itself is process 1 and gets the signal to drain.
ENTRYPOINT ["tessera"]
CMD ["serve"]
