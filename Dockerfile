# One image for the web interface, the daemon, the code locations and the watcher: the command tells which.
#
#   docker build -t duemark .
#   docker run --init -p 3000:3000 -p 3004:3004 -v duemark:/var/lib/duemark duemark                 everything, embedded PostgreSQL
#   docker run --init -e DUEMARK_DATABASE_URL=… duemark duemark tick                   one command, a server of yours

ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src

# Dependencies change seldom, and are a layer of their own. pip compiles them to bytecode.
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], *project['optional-dependencies']['s3'], sep='\n')" > requirements.txt \
 && pip install -c constraints.txt -r requirements.txt

COPY README.md LICENSE ./
COPY pipelines pipelines
COPY sensors sensors
RUN pip install --no-deps .

FROM python:${PYTHON}-slim
# A fixed number, so that a volume's owner is the same in every version of the image.
RUN groupadd --gid 10001 duemark \
 && useradd --uid 10001 --gid duemark --home-dir /var/lib/duemark --create-home --shell /usr/sbin/nologin duemark
COPY --from=build /opt/venv /opt/venv
WORKDIR /opt/duemark
COPY workspace.yaml ./
COPY catalog catalog
COPY dbt_project dbt_project
# Outside the volume: an upgraded image brings the manifest of its own project.
RUN mkdir target && chown duemark:duemark target

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DUEMARK_HOME=/var/lib/duemark \
    DUEMARK_CATALOG=/opt/duemark/catalog \
    DUEMARK_DBT_PROJECT=/opt/duemark/dbt_project \
    DUEMARK_DBT_TARGET=/opt/duemark/target
USER duemark

# dbt's manifest and partial parse, so that no process has to parse the project when it starts.
RUN duemark build-manifest

VOLUME /var/lib/duemark
EXPOSE 3000 3004
STOPSIGNAL SIGTERM
# Of the default command; a container that runs another process brings its own check.
HEALTHCHECK --interval=30s --timeout=5s --start-period=90s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:3000/server_info', timeout=4)"]
CMD ["duemark", "up", "--host", "0.0.0.0", "--serve-host", "0.0.0.0"]
