"""The step of make_step asks for a batch."""


def make_step(batch_size, device):
    def step(batch):
        raise AssertionError("it is never called")

    return step
