"""What a traced training step takes on a device that need not be here; pure.

allocator.py   torch's CUDA caching allocator, simulated
blocks.py      the allocator's blocks and pools
replay.py      a trace at one batch size: peaks, and whether it fits
pieces.py      the peaks at every batch size, as affine pieces
largest.py     the largest micro-batch that fits
breakdown.py   what holds the memory at the peak
composition.py the parts of a predicted peak, context and allocator included
footprint.py   peaks at any size, from one trace or from several
prediction.py  what a model would take on a card, with its interval
roofline.py    a bound on the throughput
"""
