"""The allocations of a training step, traced without running it: fake tensors, no memory, no GPU.

steps.py        three training steps, under fake tensors or really run where those fail
fake.py         a model's tensors unfilled, or replaced for a while; sizes that fake ones get wrong
storage.py      a dispatch mode that sees every storage come and go
ledger.py       the book it keeps: blocks, events, phases
modules.py      which module is at work, also in the backward pass
lowering.py     CUDA's operators in place of the CPU's: attention.py, sequences.py, autocast.py
scratch.py      what CUDA's operators take besides their results
symbolic.py     two traces -> every allocation as c + s·B
"""
