"""bsadvisor: which batch size, and with it which learning rate, to train with on this GPU.

cli -> engine: for each question of `questions` -> its stage -> task =(process)=> its measure
 ^                                                     ^                              |
 +-- report <- tell <- plan: what follows <- record <--+----------- results ----------+
"""

__version__ = "0.1.0"
