"""Colours of a run's figure by their role, told apart with every kind of colour vision.

The maps are those of matplotlib whose brightness rises steadily; the others are of the palette of
Okabe and Ito. Nothing is said by colour alone: markers and line styles differ as well.
"""

EXPECTED_MAP = "viridis"
ERROR_MAP = "cividis"
SURVEY_MAP = "gray"
ORDER_MAP = "plasma"
"""Order in which points were measured."""

MEASURED = "#0072B2"
PREDICTED = "#D55E00"
MANUAL = "#56B4E9"
FAILED = "#D55E00"
FLAG = "#F0E442"
DRIFT = "#CC79A7"
NEXT = "#999999"
"""Error of the prediction at the next pixel."""
SCORES = (MEASURED, "#009E73", "#E69F00")
TROUBLE = "red"

MARK, OUTLINE = "white", "black"
"""Markers have both, so that they are seen on any ground."""
