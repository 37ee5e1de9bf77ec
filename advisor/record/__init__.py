"""RunRecord, PredictRecord and LrRangeRecord, and their versioned JSON.

A document holds the measurements and, for other programs, the conclusions: of a run and of a range
test under `derived`, of a prediction under `predictions`. Reading drops them: conclusions are
computed again, so an old file gains from a newer version.
"""

from advisor.record.files import (
    encode_document,
    encode_lr_range,
    encode_predictions,
    json_schema,
    read_record,
    read_saved,
    write_document,
    write_lr_range,
    write_predictions,
)
from advisor.record.lr_range import LrRangeCommand, LrRangeRecord
from advisor.record.prediction import PredictCommand, PredictRecord
from advisor.record.run import Command, RunDocument, RunRecord

__all__ = [
    "Command",
    "LrRangeCommand",
    "LrRangeRecord",
    "PredictCommand",
    "PredictRecord",
    "RunDocument",
    "RunRecord",
    "encode_document",
    "encode_lr_range",
    "encode_predictions",
    "json_schema",
    "read_record",
    "read_saved",
    "write_document",
    "write_lr_range",
    "write_predictions",
]
