"""The dense model in PyTorch, float32: what every speed-up is against."""

import shutil

from contenders.contender import Contender, Job, describe


def make(job: Job) -> None:
    """The checkpoint itself."""
    for file in job.dense.iterdir():
        if file.is_file():
            shutil.copy(file, job.out / file.name)
    describe(job.out, "transformers", ["model.safetensors"], steps=0)


CONTENDER = Contender(
    name="pytorch",
    points=("fp32",),
    packages=("torch", "transformers"),
    settings="the dense model as transformers loads it (scaled_dot_product_attention), inference mode",
    make=make,
)
