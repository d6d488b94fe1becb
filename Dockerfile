# Serves a model over HTTP, by dragoman serve:
#   docker build --tag dragoman .
#   docker run --rm --publish 8000:8000 --volume "$PWD/en-de:/model:ro" dragoman
FROM debian:trixie-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates g++ python3-dev python3-venv
RUN python3 -m venv /dragoman
COPY . /source
RUN /dragoman/bin/pip install --no-cache-dir '/source[serve]'

FROM debian:trixie-slim
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 libstdc++6 python3 \
  && rm -rf /var/lib/apt/lists/* && useradd --system dragoman
COPY --from=build /dragoman /dragoman
USER dragoman
EXPOSE 8000
HEALTHCHECK CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:8000/health')"]
ENTRYPOINT ["/dragoman/bin/dragoman", "serve", "/model", "--host", "0.0.0.0"]
