# The gateway as an image: console, wheel and locked packages are made in stages of their own; no compiler, no Node and no pip
# reach the last one. How to use it stands in docs/docker.md.
#
#   docker build -t sluicegate .
#   docker build -t sluicegate --build-arg BASE=registry.internal/debian:trixie-slim .
#
# BASE: any Debian from 12 (or Ubuntu from 24.04), since everything else comes from apt, PyPI and npm. Behind a mirror or a
# TLS-inspecting proxy give these secrets; nothing of them stays in the image:
#   --secret id=ca,src=ca-bundle.pem    certificates to trust while downloading
#   --secret id=pip,src=pip.conf        index of the Python packages
#   --secret id=npm,src=.npmrc          registry of the console's packages
ARG BASE=debian:trixie-slim

# ---- Python, in every stage the same -------------------------------------------------------------------------------------
FROM ${BASE} AS python
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3 ca-certificates \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
ENV PYTHONDONTWRITEBYTECODE=1

FROM python AS tools
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3-venv
COPY deploy/docker/fetching /usr/local/bin/
COPY deploy/lock /lock

# ---- the console -----------------------------------------------------------------------------------------------------------
FROM tools AS console
RUN --mount=type=secret,id=ca --mount=type=secret,id=pip \
    python3 -m venv /node && fetching /node/bin/pip install --quiet --require-hashes -r /lock/installer.txt
WORKDIR /source/web
COPY web/package.json web/package-lock.json ./
RUN --mount=type=secret,id=ca --mount=type=secret,id=npm \
    PATH=/node/bin:$PATH fetching npm ci --no-progress --no-fund --no-audit
COPY web ./
RUN PATH=/node/bin:$PATH npx --no-install vite build

# ---- the wheel ---------------------------------------------------------------------------------------------------------------
FROM console AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY migrations migrations
COPY bpf bpf
COPY deploy deploy
COPY gateway gateway
RUN /node/bin/python -m hatchling build -t wheel -d /wheel

# ---- the packages --------------------------------------------------------------------------------------------------------------
FROM tools AS packages
RUN --mount=type=secret,id=ca --mount=type=secret,id=pip \
    python3 -m venv --without-pip /opt/sluicegate && python3 -m venv /pip \
    && fetching /pip/bin/pip --python /opt/sluicegate/bin/python install --quiet --no-compile --require-hashes -r /lock/runtime.txt
COPY --from=wheel /wheel /wheel
RUN /pip/bin/pip --python /opt/sluicegate/bin/python install --quiet --no-compile --no-deps --no-index /wheel/*.whl \
    && rm -rf /opt/sluicegate/lib/python3*/site-packages/pyarrow/include /opt/sluicegate/lib/python3*/site-packages/pyarrow/tests \
    && /opt/sluicegate/bin/python -m compileall -q -j 0 /opt/sluicegate/lib

# ---- the image -------------------------------------------------------------------------------------------------------------------
FROM python
LABEL org.opencontainers.image.title="Sluicegate" \
    org.opencontainers.image.description="Self-hosted AI/API gateway" \
    org.opencontainers.image.licenses="Apache-2.0"
# Folders made here give a new named volume its owner.
RUN groupadd --system --gid 10001 sluicegate \
    && useradd --system --uid 10001 --gid 10001 --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin sluicegate \
    && install -d -m 0700 -o sluicegate -g sluicegate /var/lib/sluicegate \
    && install -d -m 0755 -o sluicegate -g sluicegate /secrets /secrets/gateway /secrets/postgres /secrets/valkey /secrets/prometheus
COPY --from=packages /opt/sluicegate /opt/sluicegate
COPY deploy/docker/healthy deploy/docker/make-secrets deploy/docker/make-prometheus-token /usr/local/bin/
ENV PATH=/opt/sluicegate/bin:/usr/local/bin:/usr/bin:/bin \
    SLUICEGATE_DATA=/var/lib/sluicegate \
    SLUICEGATE_LISTEN=0.0.0.0:8080
USER sluicegate
VOLUME /var/lib/sluicegate
EXPOSE 8080
# Longer than `--drain`: answers in progress end, then the last rows reach the ledger.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["healthy"]
ENTRYPOINT ["sluicegate"]
CMD ["serve"]
