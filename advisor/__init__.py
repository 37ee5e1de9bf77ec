"""bsadvisor: which batch size, and with it which learning rate, to train with on this GPU.

    model.py -> spec -> probe =(process boundary)=> worker -> measurements -> analysis -> recommend -> report
                         ^                                        |
                         +---------- search: which size next <----+         (session.py runs this loop)
"""

__version__ = "0.1.0"
