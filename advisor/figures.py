"""What a figure can be: others may have written the file that it is read from.

What cannot have been measured is refused with its place, so that nothing further in has to ask
whether it may divide by a figure, take its logarithm or count up to it.
"""

from typing import Annotated

from msgspec import Meta

#: Of a batch, in samples: kernels index with 32 bits.
MOST_BATCH = 2**31
Size = Annotated[int, Meta(ge=1, le=MOST_BATCH)]
#: Samples of a dataset, whose length may be said to be endless.
MOST_SAMPLES = 2**62
Many = Annotated[int, Meta(ge=1, le=MOST_SAMPLES)]
#: Steps, samples, processes, operations.
Count = Annotated[int, Meta(ge=0, le=2**62)]
Bytes = Annotated[int, Meta(ge=0, le=2**60)]
#: Of bytes or operations, which may also be fewer.
Signed = Annotated[int, Meta(ge=-(2**62), le=2**62)]
#: That something took; a clock tells them down to the nanosecond.
Seconds = Annotated[float, Meta(ge=1e-9, le=1e9)]
#: That may be none at all, or a clock's.
Duration = Annotated[float, Meta(ge=0.0, le=1e12)]
PerSecond = Annotated[float, Meta(ge=1e-9, le=1e18)]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
#: Losses, norms, rates: of a training that diverges they may be anything whose sums are numbers.
Figure = Annotated[float, Meta(ge=-1e300, le=1e300)]
#: Of two times, or of two counts, that are of one kind.
Factor = Annotated[float, Meta(ge=1e-9, le=1e9)]
#: What is divided by.
Weight = Annotated[float, Meta(ge=1e-120, le=1e120)]
