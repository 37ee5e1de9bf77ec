"""What a traced training step takes on a device that need not be here; pure.

allocator.py   torch's CUDA caching allocator, simulated
replay.py      a trace at one batch size: peaks, and whether it fits
largest.py     the largest micro-batch that fits
breakdown.py   what holds the memory at the peak
roofline.py    a bound on the throughput
"""
