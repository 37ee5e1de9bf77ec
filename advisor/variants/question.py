"""How do other precisions and compilation compare? The question as the registry has it."""

from advisor.engine.question import Question
from advisor.variants.data import VARIANTS
from advisor.variants.plan import VARIANTS_TOPIC
from advisor.variants.stage import reserve_time, run_variants
from advisor.variants.tell import tell_variants

QUESTION = Question(
    name="variants",
    keys=(VARIANTS,),
    topics=(VARIANTS_TOPIC,),
    check=reserve_time,
    run=run_variants,
    tell=tell_variants,
    fails_alone=True,
)
