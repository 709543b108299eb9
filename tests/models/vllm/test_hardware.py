"""What the hardware is, from what its driver writes."""

import pytest

from models.vllm.hardware import Hardware, find_hardware, gpus_told


def test_one_gpu_is_told_with_what_decides() -> None:
    told = gpus_told("NVIDIA H100 80GB HBM3, 81559, 9.0\n", cores=16)

    assert told == Hardware("cuda", 81559 * 2**20, 1, 16, (9, 0), "NVIDIA H100 80GB HBM3")


def test_of_several_the_weakest_counts() -> None:
    told = gpus_told("NVIDIA H100, 81559, 9.0\nTesla T4, 15360, 7.5\n", cores=1)

    assert told is not None
    assert (told.devices, told.memory_bytes, told.capability) == (2, 15360 * 2**20, (7, 5))


@pytest.mark.parametrize(
    "text", ["", "No devices were found\n", "NVIDIA-SMI has failed, because\n", "x, [N/A], [N/A]\n", ",,\n"]
)
def test_a_driver_without_a_device_is_no_gpu(text: str) -> None:
    assert gpus_told(text, cores=1) is None


def test_this_machine_has_something_to_compute_with() -> None:
    found = find_hardware()

    assert found.memory_bytes > 2**28
    assert found.cores >= 1
