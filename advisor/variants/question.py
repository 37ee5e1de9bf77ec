"""Other precisions, compiled or not, as the registry has them."""

from advisor.engine.question import Question
from advisor.variants.conclude import VARIANTS_TOPIC
from advisor.variants.data import VARIANTS
from advisor.variants.stage import reserve_time, run_variants

QUESTION = Question(
    name="variants",
    keys=(VARIANTS,),
    topics=(VARIANTS_TOPIC,),
    check=reserve_time,
    run=run_variants,
)
