# The provider. Build from the top folder: docker build -f deploy/docker/provider.Dockerfile -t ghubai-provider .

FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/ghubai
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY common common
COPY ghub ghub
COPY hub hub
COPY provider provider
# Everything as it was tested; pip itself stays behind.
RUN pip --python /opt/ghubai/bin/python install --no-cache-dir --no-compile --constraint constraints.txt . \
    && /opt/ghubai/bin/python -m compileall -q /opt/ghubai/lib

FROM python:3.13-slim
LABEL org.opencontainers.image.title="GhubAi provider" \
      org.opencontainers.image.description="Pulls jobs for the inference engine of this machine while its GPU is idle" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/ghubai /opt/ghubai
ENV PATH=/opt/ghubai/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GHUB_LOG_FORMAT=json
# A number, so that an orchestrator can see that it is not root.
USER 10001:10001
STOPSIGNAL SIGTERM
# Its own HTTP stays on loopback: nothing needs to reach a provider.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8081, timeout=2); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["ghub", "provider"]
