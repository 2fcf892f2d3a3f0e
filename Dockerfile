# syntax=docker/dockerfile:1
# flightlog as a worker: `docker build -t flightlog .`; every command of the image is one of `flightlog`. See docs/operations.md.

FROM python:3.13-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN python -m venv /opt/flightlog \
 && python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
 && /opt/flightlog/bin/pip install --no-cache-dir "$(echo /wheels/flightlog-*.whl)[postgres,s3]"

FROM python:3.13-slim-bookworm
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/flightlog --create-home flightlog \
 && install -d -o flightlog -g flightlog /var/lib/flightlog/spool
COPY --from=build /opt/flightlog /opt/flightlog
ENV PATH=/opt/flightlog/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    FLIGHTLOG_SPOOL=/var/lib/flightlog/spool
USER 10001:10001
WORKDIR /var/lib/flightlog
STOPSIGNAL SIGTERM
ENTRYPOINT ["flightlog"]
CMD ["worker"]
