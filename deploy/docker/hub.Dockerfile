# The hub. Build from the top folder: docker build -f deploy/docker/hub.Dockerfile -t ghubai-hub .

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
LABEL org.opencontainers.image.title="GhubAi hub" \
      org.opencontainers.image.description="One OpenAI-compatible address over many GPU machines that are only sometimes free" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/ghubai /opt/ghubai
ENV PATH=/opt/ghubai/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GHUB_LOG_FORMAT=json
# Open to others, so clients must show a key unless GHUB_HUB_AUTH says that something in front asks for it.
ENV GHUB_HUB_HOST=0.0.0.0
# A number, so that an orchestrator can see that it is not root.
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
# That the process answers; whether to send it requests is /health/ready's to say, which a load balancer asks.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8080, timeout=2); c.request('GET', '/health/live'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["ghub", "hub"]
