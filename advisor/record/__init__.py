"""Records of a run, a prediction, a range test and a self-comparison, and their versioned JSON.

A document holds the measurements and, for other programs, the conclusions: of a prediction under
`predictions`, of all others under `derived`. Reading drops them: conclusions are
computed again, so an old file gains from a newer version.
"""

from advisor.record.files import (
    encode_document,
    encode_lr_range,
    encode_predictions,
    encode_self_comparison,
    json_schema,
    read_record,
    read_saved,
    write_document,
    write_lr_range,
    write_predictions,
    write_self_comparison,
)
from advisor.record.lr_range import LrRangeCommand, LrRangeRecord
from advisor.record.prediction import PredictCommand, PredictRecord
from advisor.record.run import Command, RunDocument, RunRecord
from advisor.record.self_comparison import SelfComparisonCommand, SelfComparisonRecord

__all__ = [
    "Command",
    "LrRangeCommand",
    "LrRangeRecord",
    "PredictCommand",
    "PredictRecord",
    "RunDocument",
    "RunRecord",
    "SelfComparisonCommand",
    "SelfComparisonRecord",
    "encode_document",
    "encode_lr_range",
    "encode_predictions",
    "encode_self_comparison",
    "json_schema",
    "read_record",
    "read_saved",
    "write_document",
    "write_lr_range",
    "write_predictions",
    "write_self_comparison",
]
