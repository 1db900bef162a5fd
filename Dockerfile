# One image for every service; docker-compose.yml says which one a container runs.
FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/voltage
ENV PATH=/opt/voltage/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# What changes seldom comes first. Each package is checked by hash; the build's own tool is among them.
COPY requirements.lock ./
RUN pip install --require-hashes --no-deps -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY libs libs
COPY services services
COPY redis_functions redis_functions
RUN pip install --no-deps --no-build-isolation . && python -m compileall -q /opt/voltage

FROM python:3.13-slim
# The owner of the site's folder on the host: secrets are files of mode 0600.
ARG UID=1000
ARG GID=1000
COPY --from=build /opt/voltage /opt/voltage
ENV PATH=/opt/voltage/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    VOLTAGE_CONFIG_DIR=/config VOLTAGE_DATA_DIR=/data
WORKDIR /data
USER ${UID}:${GID}
ENTRYPOINT ["voltage"]
CMD ["--help"]
