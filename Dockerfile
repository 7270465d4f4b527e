# container-orchestrator as an image. It needs the engine's socket and the group that may use it:
#
#   docker build --tag container-orchestrator .
#   docker run --publish 127.0.0.1:8086:8086 --volume co-data:/data \
#     --volume /var/run/docker.sock:/var/run/docker.sock \
#     --group-add "$(stat -c %g /var/run/docker.sock)" \
#     --env CO_ALLOW_UNAUTHENTICATED=true container-orchestrator
#
# Where npm takes packages from another registry, or trusts a certificate authority of its own, two
# build arguments say so: NPM_CONFIG_REGISTRY, and NODE_EXTRA_CA_CERTS with a path in the base image.
# They exist while the packages are installed and are in no layer of the result.
ARG BASE_IMAGE=node:24-bookworm-slim

# The static busybox that the service puts into containers without tools of their own.
FROM ${BASE_IMAGE} AS toolbox
RUN command -v busybox || \
    { apt-get update && apt-get install --yes --no-install-recommends busybox-static; }
RUN mkdir /opt/toolbox && cp "$(command -v busybox)" /opt/toolbox/busybox

FROM ${BASE_IMAGE} AS build
ARG NPM_CONFIG_REGISTRY
ARG NODE_EXTRA_CA_CERTS
WORKDIR /app
COPY package.json package-lock.json ./
# npm ci refuses a lock file without the optional binaries of every platform; npm install takes it.
RUN npm ci --ignore-scripts --no-audit --no-fund || npm install --no-save --ignore-scripts --no-audit --no-fund
COPY rolldown.config.ts ./
COPY scripts/build scripts/build
COPY src src
RUN npm run build

FROM ${BASE_IMAGE} AS packages
ARG NPM_CONFIG_REGISTRY
ARG NODE_EXTRA_CA_CERTS
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund || \
    npm install --no-save --omit=dev --ignore-scripts --no-audit --no-fund

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="container-orchestrator" \
      org.opencontainers.image.description="Safe containers for AI agents over one REST API" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /app
COPY --from=toolbox /opt/toolbox /opt/toolbox
COPY --from=packages /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY package.json LICENSE scripts/healthcheck.ts ./
# A volume takes its owner from the folder that it covers.
RUN install --directory --owner=1000 --group=1000 /data
# What the threads of Node have freed is one heap, and goes back to the system.
ENV NODE_ENV=production MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=131072 CO_HOST=0.0.0.0 CO_DATA_DIR=/data
VOLUME /data
EXPOSE 8086
# The user `node` of the base image, by number: so a cluster can tell that it is not root.
USER 1000:1000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["node", "healthcheck.ts"]
ENTRYPOINT ["node", "--max-semi-space-size=16", "--disable-warning=ExperimentalWarning", "dist/main.js"]
