"""The allocations of a training step, traced without running it: fake tensors, no memory, no GPU.

storage.py    a dispatch mode that sees every storage come and go
fake.py       three training steps under fake tensors
lowering.py   CUDA's operators in place of the CPU's
symbolic.py   two traces -> every allocation as c + s·B
"""
