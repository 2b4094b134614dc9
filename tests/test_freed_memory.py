"""Memory that was freed is used again, not asked for anew."""

import platform
import subprocess
import sys

import pytest
from test_fit import HERE

ASK = """
import resource
import torch
from training.optimizing import freed_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
fresh = pages()
freed_memory.keep()
pages()
print(fresh, pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has this setting")
def test_pages_of_large_tensors_are_used_again():
    done = subprocess.run([sys.executable, "-c", ASK], env=HERE, capture_output=True, text=True, check=True)
    fresh, kept = map(int, done.stdout.split())
    assert kept < fresh / 10
