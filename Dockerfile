# clipself with what its commands need, for a CPU; for a GPU take an index of CUDA wheels:
#   docker build -t clipself .
#   docker build -t clipself --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" clipself detect predict photo.jpg --names cat cup
# (--gpus all for the second).
FROM python:3.12-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=transformers,tensorboard,video

RUN pip install --no-cache-dir "torch>=2.9,!=2.13.*" "torchvision>=0.24" --index-url "${TORCH_INDEX}"

COPY pyproject.toml hatch_build.py README.md LICENSE NOTICE /source/
COPY src /source/src
RUN pip install --no-cache-dir "/source[${EXTRAS}]" && rm -rf /source

# Embedded names and the hub's files are kept here: mount a volume to keep them from one run to the next. Whoever --user
# names may write there, also one that the image does not know and that has no home.
ENV HOME=/cache CLIPSELF_CACHE=/cache/clipself HF_HOME=/cache/huggingface
RUN useradd user && mkdir -p /cache /data && chmod 1777 /cache /data
USER user
VOLUME /cache
WORKDIR /data
ENTRYPOINT ["clipself"]
CMD ["help"]
