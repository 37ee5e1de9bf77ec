"""What `bsadvisor verify` prints."""

from rich.console import Console, Group
from rich.text import Text

from advisor.report.encoding import write_encodable
from advisor.report.terminal import render_rows
from advisor.units import format_count
from advisor.verify.data import VerificationConclusion
from advisor.verify.tell import list_verification, render_verification

_HEADLINES = {
    "holds": "The recommendation holds: batch {}",
    "beaten": "The recommendation does not hold: batch {}",
    "inconclusive": "Not told whether the recommendation holds: batch {}",
}


def write_verification(
    console: Console, verification: VerificationConclusion | None, *, headline_only: bool = False
) -> None:
    """Print whether the recommendation holds, and what that rests on."""
    if verification is None:
        write_encodable(console, Text("No branch was trained."))
        return
    size = format_count(verification.recommended_batch_size)
    headline = Text(_HEADLINES[verification.verdict.status].format(size), style="bold")
    if headline_only:
        write_encodable(console, headline)
        return
    rows = render_rows(list_verification(verification))
    write_encodable(console, Group(headline, *render_verification(verification), Text(), rows))
