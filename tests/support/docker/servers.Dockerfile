# Stand-ins for the official images of PostgreSQL, Prometheus and Valkey where no image registry can be reached: Debian's
# packages under the same users, paths, commands and variables, as far as docker-compose.yml uses them.
ARG BASE
FROM ${BASE} AS postgres
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends postgresql \
    && rm -rf /var/lib/postgresql/* && install -d -m 1777 -o postgres -g postgres /var/lib/postgresql/data /var/run/postgresql \
    && ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/
COPY postgres-entrypoint /usr/local/bin/
ENV PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
ENTRYPOINT ["postgres-entrypoint"]

FROM ${BASE} AS prometheus
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends prometheus \
    && install -d -m 0755 -o nobody -g nogroup /prometheus
USER nobody
VOLUME /prometheus
ENTRYPOINT ["prometheus"]

# Debian 12 has Redis, from which Valkey was forked; the options that are used here are the same.
FROM ${BASE} AS valkey
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends redis-server \
    && ln -s /usr/bin/redis-server /usr/local/bin/valkey-server && ln -s /usr/bin/redis-cli /usr/local/bin/valkey-cli \
    && install -d -o 999 -g 999 /data
VOLUME /data
