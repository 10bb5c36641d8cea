# Only the server: no TensorFlow, no DVC. docker build -t brain-tumor . && docker run --rm -p 127.0.0.1:8000:8000 brain-tumor
FROM python:3.13-slim

WORKDIR /app
COPY requirements-serving.txt requirements-readers.txt ./
RUN python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes \
        -r requirements-serving.txt -r requirements-readers.txt
COPY pyproject.toml README.md LICENSE requirements*.in ./
COPY src src
RUN python -m pip install --no-cache-dir --disable-pip-version-check --no-deps . && rm -r src

# The server writes no files, so `docker run --read-only` works too.
USER 65534:65534
ENV PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["brain-tumor"]
CMD ["serve", "--host", "0.0.0.0"]
