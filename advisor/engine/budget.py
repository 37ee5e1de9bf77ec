"""How a command's time is shared out: the part of it that each stage may take, and why.

`_OF_BUDGET` is a part of the whole command's time; `_OF_LEFT` of what is left when the stage
begins, so that what one stage saves goes to those after it; any other of that stage's own time.
"""

#: Some ten probes of a step or three; what the search saves, sessions use better.
MEMORY_OF_LEFT = 0.3
#: One probe of the search: what its steps will take is only estimated.
PROBE_OF_MEMORY = 1 / 3
#: Without the trace the search needs a few probes more.
TRACE_OF_BUDGET = 0.1

#: All sessions: at least three, since without them no figure has an interval.
THROUGHPUT_OF_LEFT = 0.45
#: Until when sessions beyond the planned ones may end: they sharpen the figures and settle where
#: the curve ends, which rarely changes the advice.
EXTRA_SESSIONS_OF_LEFT = 0.25
#: Compiling: the rest times what was compiled.
COMPILING_OF_THROUGHPUT = 0.5

#: The noise scale decides the batch.
NOISE_OF_LEFT = 0.5
#: Training steps between the points; the rest measures.
TRAINING_OF_NOISE = 0.4
#: A hint that changes no rate, and was asked for.
SHARPNESS_OF_LEFT = 0.25

#: What the loader's timing plans with: the lesser of the two.
LOADER_OF_BUDGET, LOADER_OF_LEFT = 0.1, 0.25
#: When it is given up.
LOADER_END_OF_LEFT = 0.5

#: The rest is for the soak; evaluations and a worker's start come on top of what is planned.
TRIAL_OF_LEFT = 0.85
#: Evaluations among the trial's steps.
EVALUATION_OF_TRIAL = 0.2
#: The range test; its trial takes about as long.
RANGE_OF_LEFT = 0.45

#: All soaks together.
SOAK_OF_BUDGET = 0.1
#: The traces with one change each: the answer itself does not need them.
SAVINGS_OF_BUDGET = 0.1

#: Each further variant is promised this, all together at most that: the recommendation, which is
#: for the first, keeps at least the rest.
VARIANT_OF_BUDGET, VARIANTS_OF_BUDGET = 0.2, 0.5
#: The loss runs, where there is data for them.
LOSSES_OF_VARIANTS = 0.3

#: What the plan of `verify` may fill: workers' starts come on top.
VERIFY_OF_BUDGET = 0.85
#: The trunk, or the steps that fill the optimizer's state: the branches are what tells.
TRUNK_OF_BUDGET = 0.2
