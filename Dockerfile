# syntax=docker/dockerfile:1

FROM golang:1.26.8-bookworm AS build
WORKDIR /src
# Dependencies change less often than the source: they get a layer of their own.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /out/ ./cmd/worker ./cmd/enqueue ./cmd/simulator

# What every image here needs and a scratch image lacks: certificate authorities for the vendors' hosts, time zones for limits
# by calendar day, and wget for health checks. There is no shell and no package manager.
FROM scratch AS base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /usr/local/go/lib/time/zoneinfo.zip /usr/share/zoneinfo.zip
COPY --from=busybox:1.37.0-musl /bin/busybox /bin/wget
ENV ZONEINFO=/usr/share/zoneinfo.zip PATH=/usr/local/bin:/bin
# A number, so that an orchestrator can see that it is not root.
USER 65532:65532

# The vendors as a program, for staging and drills: docker build --target simulator .
FROM base AS simulator
COPY --from=build /out/simulator /usr/local/bin/simulator
ENTRYPOINT ["/usr/local/bin/simulator"]

# The last stage is what "docker build ." gives: the worker, and enqueue to be run in it.
FROM base
COPY --from=build /out/worker /out/enqueue /usr/local/bin/
ENV RECALLQ_CONFIG=/etc/recallq/recallq.yaml RECALLQ_LOG_FORMAT=json
EXPOSE 8080
# Of the process alone. /readyz is also about Redis, which a restart of the worker would not mend.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["/bin/wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/healthz"]
ENTRYPOINT ["/usr/local/bin/worker"]
