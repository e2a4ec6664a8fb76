"""What the operator, the sensor, the trigger and the decorator share."""

from __future__ import annotations
