"""The array types that the package's signatures speak of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
AnyFloats = NDArray[Any]


class NotFiniteError(ValueError):
    """Rows hold NaN or infinity, or their squares do."""
