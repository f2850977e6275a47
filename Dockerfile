# One wheel, built once; one target per process: `docker build --target agent .`
# Plain instructions only, so that the classic builder and BuildKit both build it.

FROM debian:bookworm-slim AS python
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/hythe/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1

# Every dependency as a wheel, checked against the hashes of requirements.lock, and Hythe's own wheel beside them.
FROM python AS wheels
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/build
WORKDIR /src
COPY requirements.lock ./
RUN /opt/build/bin/pip wheel --require-hashes --wheel-dir /wheels --requirement requirements.lock \
 && /opt/build/bin/pip install --no-index --find-links /wheels hatchling
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY services services
RUN /opt/build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheels .

FROM wheels AS install-nats
RUN python3 -m venv /opt/hythe && /opt/hythe/bin/pip install --no-index --find-links /wheels "hythe[server]"
FROM wheels AS install-metadata
RUN python3 -m venv /opt/hythe && /opt/hythe/bin/pip install --no-index --find-links /wheels "hythe[metadata]"
FROM wheels AS install-distribution
RUN python3 -m venv /opt/hythe && /opt/hythe/bin/pip install --no-index --find-links /wheels "hythe[distribution]"
FROM wheels AS install-bundle
RUN python3 -m venv /opt/hythe && /opt/hythe/bin/pip install --no-index --find-links /wheels "hythe[bundle]"
FROM wheels AS install-runtime
RUN python3 -m venv /opt/hythe && /opt/hythe/bin/pip install --no-index --find-links /wheels "hythe[runtime]"
FROM wheels AS install-agent
RUN python3 -m venv /opt/hythe && /opt/hythe/bin/pip install --no-index --find-links /wheels "hythe[agent]"
FROM wheels AS install-cli
RUN python3 -m venv /opt/hythe && /opt/hythe/bin/pip install --no-index --find-links /wheels hythe

FROM python AS nats
COPY --from=install-nats /opt/hythe /opt/hythe
CMD ["python3", "-m", "hythe.stack.bus"]

FROM python AS metadata
COPY --from=install-metadata /opt/hythe /opt/hythe
CMD ["hythe-metadata"]

FROM python AS distribution
COPY --from=install-distribution /opt/hythe /opt/hythe
CMD ["hythe-distribution"]

FROM python AS bundle
COPY --from=install-bundle /opt/hythe /opt/hythe
CMD ["hythe-bundle"]

FROM python AS runtime
COPY --from=install-runtime /opt/hythe /opt/hythe
CMD ["hythe-runtime"]

# Containers must outlive this one, so the agent works in the cgroup namespace of the host's first process (`pid: host`).
FROM python AS agent
RUN apt-get update \
 && apt-get install -y --no-install-recommends conmon containernetworking-plugins runc \
 && rm -rf /var/lib/apt/lists/*
COPY --from=install-agent /opt/hythe /opt/hythe
CMD ["nsenter", "--target", "1", "--cgroup", "--", "hythe-agent"]

FROM python AS cli
COPY --from=install-cli /opt/hythe /opt/hythe
ENTRYPOINT ["hythe"]
