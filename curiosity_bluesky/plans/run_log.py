"""The RunEngine's log: an end that was to be expected is a line of information there.

The RunEngine logs every plan that did not succeed as an error, with the way through all its
coroutines. Of what the user gave the `InputError` says all there is to say, and it is raised as
well; that a signal ended the run is logged where the signal comes in.
"""

from __future__ import annotations

import logging

from curiosity_bluesky.errors import InputError

RUN_LOG = logging.getLogger("bluesky")
"""What the RunEngine logs to."""

_ABORTED = "Run aborted"


def expected(record: logging.LogRecord, *errors: type[BaseException]) -> bool:
    """Make a line of information of a run that ended in an expected way (a filter of `RUN_LOG`).

    Parameters
    ----------
    record
        Of the log; one that is about anything else is left as it is.
    *errors
        What was to be expected; default: an `InputError`.

    Returns
    -------
    bool
        Whether it is to be logged.
    """
    error = record.exc_info[1] if record.exc_info else None
    if record.msg != _ABORTED or not isinstance(error, errors or InputError):
        return True
    record.levelno, record.levelname, record.exc_info = logging.INFO, "INFO", None
    record.msg, record.args = "%s: %s", (_ABORTED, str(error) or type(error).__name__)
    return RUN_LOG.isEnabledFor(logging.INFO)
