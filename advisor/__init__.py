"""bsadvisor: which batch size, and with it which learning rate, to train with on this GPU.

model.py -> spec -> probe =(process)=> worker -> measurements -> analysis -> recommend -> report
                     ^                                |
                     +------ search: what next <------+          (session/ runs this loop)
"""

__version__ = "0.1.0"
