"""Measure how many bytes the coordinates and attributes of a GeoJSON file take, by its first features."""

from __future__ import annotations

import re
from collections import Counter

import orjson

from airflow_mapbox.billing.bill import Savings
from airflow_mapbox.preflight.jsonprefix import BrokenJSONError, EndOfPart, JSONPart

_COORDINATES = re.compile(r'"coordinates"\s*:\s*(\[[-\[\]\d\s.,eE+]*\])')
_FEATURES = re.compile(r'"features"\s*:\s*\[')
# 5 decimals are about a metre: coarser than Mapbox's most precise tiles.
_DECIMALS = (7, 6, 5)


def sampled_savings(head: bytes, size: int | None) -> Savings | None:
    """
    Return what fewer decimals and attributes would save; None if the beginning has no complete feature.

    :param head: the first bytes of the file.
    :param size: the file's size in bytes; None if it is unknown.
    """
    text = head.decode("utf-8", "ignore")
    features = _FEATURES.search(text)
    if features is None or not size:
        return None
    part = JSONPart(text, features.end())
    count = coordinates = 0
    decimals, attributes = Counter[int](), Counter[str]()
    start = end = part.at
    try:
        while True:
            feature = part.value()
            raw = text[end : part.at]
            end = part.at
            count += 1
            for positions in _COORDINATES.findall(raw):
                coordinates += len(positions)
                for number in _DECIMALS:
                    decimals[number] += len(positions) - len(_with_decimals(positions, number))
            properties = feature.get("properties") if isinstance(feature, dict) else None
            for name, value in properties.items() if isinstance(properties, dict) else ():
                # With the quotation marks of the name, the colon and a comma.
                attributes[name] += len(orjson.dumps(name)) + len(orjson.dumps(value)) + 2
            part.take(",")
    except (EndOfPart, BrokenJSONError, orjson.JSONEncodeError):
        pass
    if not count:
        return None
    times = size / len(text[start:end].encode())
    return Savings(
        sampled_features=count,
        coordinates=round(coordinates * times),
        decimals={number: round(saved * times) for number, saved in decimals.items() if saved},
        attributes={name: round(taken * times) for name, taken in attributes.items()},
    )


def _with_decimals(positions: str, decimals: int) -> str:
    return re.sub(rf"(\.\d{{{decimals}}})\d+", r"\1", positions)
