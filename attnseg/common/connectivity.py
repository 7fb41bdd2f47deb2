"""Which pixels of a mask belong together."""

from __future__ import annotations

import numpy as np

EIGHT = np.ones((3, 3), dtype=bool)
"""SciPy's `structure` of 8-connected components: pixels that touch by a corner are one lesion."""
