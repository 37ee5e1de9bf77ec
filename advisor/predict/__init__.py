"""What a traced training step takes on a device that need not be here.

trace/ measure.py     the trace of a step: its storages in the order in which they come and go
allocator.py replay.py    torch's caching allocator, simulated; a trace at one size under it
pieces.py footprint.py    the peaks at every size, and the largest that fits
breakdown.py          what holds the memory at the peak
changes.py            what a change to the code would save, and how it is made
prediction.py         all of it for a card, with its interval
"""
