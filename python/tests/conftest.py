import pytest

import cumem

PROFILE = "a100:4GiB"


@pytest.fixture
def open_stack():
    """Opens stacks on simulated devices, and checks at the end that all memory was freed."""
    opened = []

    def open_one(text, **options):
        stack = cumem.Stack(text, **({"simulated": PROFILE} | options))
        opened.append(stack)
        return stack

    yield open_one
    for stack in opened:
        if not stack.closed:
            assert stack.counters.live_blocks == 0, f"{stack} has live memory"
            stack.close()
