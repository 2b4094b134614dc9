"""Memory that was freed is used again, not asked for anew."""

import platform
import subprocess
import sys

import pytest
from test_fit import HERE

from training.optimizing import freed_memory

ASK = """
import ctypes
import resource
import sys
import torch
from training.optimizing import freed_memory
from training.optimizing.freed_memory import MMAP_THRESHOLD

LIBRARY = ctypes.CDLL(None)

class Older:
    def mallopt(self, what, value):
        refused = what == MMAP_THRESHOLD and value > int(sys.argv[1])
        return 0 if refused else LIBRARY.mallopt(what, value)

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(4 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
LIBRARY.mallopt(MMAP_THRESHOLD, 128 << 10)
fresh = pages()
ctypes.CDLL = lambda name: Older()
freed_memory.keep()
pages()
print(fresh, pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has this setting")
@pytest.mark.parametrize("most", [1 << 30, 32 << 20])
def test_pages_of_large_tensors_are_used_again_whatever_threshold_is_the_most(most):
    command = [sys.executable, "-c", ASK, str(most)]
    done = subprocess.run(command, env=HERE, capture_output=True, text=True, check=True)
    fresh, kept = map(int, done.stdout.split())
    assert kept < fresh / 10


class Refusing:
    """A C library that takes no threshold; any other setting would end its own adapting."""

    def __init__(self):
        self.asked = []

    def mallopt(self, what, _value):
        self.asked.append(what)
        return 0


def test_where_no_threshold_is_taken_the_library_is_left_as_it_is(monkeypatch):
    library = Refusing()
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: library)
    freed_memory.keep()
    assert set(library.asked) == {freed_memory.MMAP_THRESHOLD}
