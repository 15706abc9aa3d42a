# An image that runs onnxmi as a user without rights; docs/howto/docker.md says how.
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE ./
COPY onnxmi ./onnxmi
RUN python -m venv /opt/onnxmi \
 && /opt/onnxmi/bin/pip install --no-cache-dir --disable-pip-version-check ".[report,images,text]"

FROM python:3.12-slim
COPY --from=build /opt/onnxmi /opt/onnxmi
ENV PATH=/opt/onnxmi/bin:$PATH ONNXMI_CACHE=/tmp/onnxmi MPLCONFIGDIR=/tmp/matplotlib PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /work
ENTRYPOINT ["onnxmi"]
CMD ["--help"]
