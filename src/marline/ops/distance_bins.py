"""The bins that distances are counted in; imports no JAX, for those who only read the counts."""

from __future__ import annotations

import numpy as np

# Half octaves, the same everywhere, so that counts of deployments, agents and seeds can be compared and added up. What
# lies below the first edge comes first, what lies at the last or beyond comes last.
EDGES = 2.0 ** np.arange(-10, 10.5, 0.5)
NUM_BINS = len(EDGES) + 1
