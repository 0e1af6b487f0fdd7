# Python with a virtual environment and pip in it.
FROM BASE
ENV DEBIAN_FRONTEND=noninteractive APT_CONFIG=/apt/conf PYTHONDONTWRITEBYTECODE=1
RUN --mount=type=bind,source=apt,target=/apt apt-get update && apt-get install python3-venv && sh /apt/clean
RUN --mount=type=bind,source=apt,target=/apt mkdir -p /app/pkg && python3 -m venv /app/venv && cd /app/pkg \
    && printf '[project]\nname = "made"\nversion = "1"\n' > pyproject.toml && echo 'answer = 42' > made.py \
    && /app/venv/bin/python -c 'import sys; assert sys.prefix == "/app/venv", sys.prefix' \
    && /app/venv/bin/pip --version && cp made.py /app/venv/lib/python3*/site-packages/ \
    && /app/venv/bin/python -c 'import made, multiprocessing, ssl; assert made.answer == 42; print(sum(multiprocessing.Pool(2).map(abs, range(9))))' \
    && rm -rf /root/.cache && sh /apt/clean
