"""Batches on the training device, in order and each once."""

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric

from birdmix.loading.batch import Batch
from birdmix.mix import DrawContext, Examples
from birdmix.training.device_batches import DeviceBatches

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]


def make_batches(device: str, num_batches: int) -> DeviceBatches:
    """Return batches of a thousand samples that are all equal to the batch's number."""
    fabric = Fabric(accelerator=device, devices=1)
    batches = (
        Batch(Examples(torch.full((4, 1000), float(number)), torch.zeros(4, 2)), DrawContext(4))
        for number in range(num_batches)
    )
    return DeviceBatches(batches, fabric)


@pytest.mark.parametrize("device", DEVICES)
def test_batches_that_are_loaded_ahead_come_in_order_and_once(device: str):
    batches = make_batches(device, 5)
    numbers = []
    for _ in range(5):
        batches.load()
        batch = batches.take()
        assert batch.examples.x.device.type == device
        batches.load_ahead()
        numbers.append(batch.examples.x.sum().item() / 4000)
    assert numbers == list(np.arange(5.0))
    with pytest.raises(StopIteration):
        batches.take()


def test_on_a_cpu_nothing_is_loaded_ahead():
    batches = make_batches("cpu", 2)
    batches.take()
    batches.load_ahead()
    assert batches.loaded is None
