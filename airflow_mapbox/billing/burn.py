"""
Find the tiles that points, lines and polygons touch, as ``estimate-area`` of mapbox/tilesets-cli burns them with GDAL.

GDAL's ``all_touched`` is not an exact cover, and the bill's area follows it (GDAL 3.10, ``llrasterize.cpp``):

=====================================================  ==============================================================
a segment                                              burns
=====================================================  ==============================================================
in one column, or narrower than 0.01 tile              the column of its right end, in its rows
else in one row, or lower than 0.01 tile               the row of its left end, in its columns
else                                                   exactly the tiles that it crosses
=====================================================  ==============================================================

In the first two cases, the last row or column counts only if the segment reaches 0.0001 tile into it. An edge of a
polygon burns nothing in these cases if both of its ends lie on borders.

A polygon also burns the tiles whose centre is inside, by the even-odd rule: its holes do not count.

Tiles are returned in the form of :mod:`airflow_mapbox.billing.runs`, in any order and more than once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from airflow_mapbox.billing.grid import BITS, NORTH_EDGE, SOUTH_EDGE, columns_of, reaches_edge, rows_of
from airflow_mapbox.billing.runs import Tiles, pack, pack_tiles, tile_numbers
from airflow_mapbox.limits import WEB_MERCATOR_LATITUDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

# GDAL's tolerances, in tiles.
_NARROW = 0.01
_ON_BORDER = 1e-4
# Positions of a block: its arrays stay in the processor's cache.
_BLOCK = 1 << 17
# So many consecutive edges are skipped together if they lie in one tile.
_WINDOW = 64
# Paths may lie far from each other, so a window with several paths is rarely in one tile. This many windows must be in
# a path on average.
_LEAST_WINDOWS = 1
# If fewer windows of a block are skipped, looking for them in the next block costs more than it saves.
_LEAST_SKIPPED = 0.25
# Runs that are made at once. One segment may cross 131,072 rows, and a polygon's edges any number of them.
_MAX_RUNS = 1 << 16


class _Edges(NamedTuple):
    """Edges in tiles from the map's north-western corner, shape (n,) each. The first end is the western one."""

    x0: NDArray[np.float64]
    y0: NDArray[np.float64]
    x1: NDArray[np.float64]
    y1: NDArray[np.float64]

    def take(self, chosen: NDArray[np.int64] | slice) -> _Edges:
        return _Edges(*(side[chosen] for side in self))


def burn_points(x: NDArray[np.float64], y: NDArray[np.float64], zoom: int, unit: float = 1.0) -> Iterator[Tiles]:
    """
    Yield the tiles of points.

    :param x: longitudes, shape (m,).
    :param y: latitudes, shape (m,). Points beyond the map have no tile.
    :param zoom: the zoom of the tiles, 0 to 17.
    :param unit: the unit of the coordinates in degrees.
    """
    shift = np.uint32(BITS - zoom)
    for start in range(0, len(x), _BLOCK):
        block = slice(start, start + _BLOCK)
        rows = rows_of(y[block], unit)
        tiles = tile_numbers(columns_of(x[block], unit) >> shift, rows >> shift, zoom)
        if reaches_edge(rows):
            tiles = tiles[np.abs(y[block]) <= WEB_MERCATOR_LATITUDE / unit]
        yield _singles(tiles, zoom)


def burn_paths(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    paths: NDArray[np.int64],
    zooms: Sequence[int],
    unit: float = 1.0,
    polygons: NDArray[np.int64] | None = None,
) -> Iterator[tuple[int, Tiles]]:
    """
    Yield the tiles of lines or polygons.

    :param x: longitudes, shape (m,).
    :param y: latitudes, shape (m,). Edges beyond the map touch no tile.
    :param paths: the first position of each line or ring, and the end of the last one. Rings are closed.
    :param zooms: the zooms of the tiles, 0 to 17, from the highest to the lowest. Lower ones cost little more.
    :param unit: the unit of the coordinates in degrees.
    :param polygons: the first ring of each polygon, and the end of the last one; None for lines.
    :return: zooms and tiles.
    """
    breaks = paths[1:-1] - 1
    rings = None if polygons is None else paths[polygons[1:]]  # the end of each polygon's positions
    fills: dict[int, list[tuple[_Edges, NDArray[np.int64]]]] = {zoom: [] for zoom in zooms}
    skips = len(x) > _LEAST_WINDOWS * _WINDOW * len(paths)
    for start in range(0, len(x) - 1, _BLOCK):
        block = slice(start, start + _BLOCK + 1)
        block_x, block_y = x[block], y[block]
        first, last = np.searchsorted(breaks, (start, start + len(block_x) - 1))
        gaps = breaks[first:last] - start
        left = None
        if skips and len(block_x) > _WINDOW:
            windows = _Windows.of(block_x, block_y, unit)
            inside = windows.in_one_tile(zooms, has_rings=polygons is not None)
            skips = bool(inside.mean() >= _LEAST_SKIPPED)
            if inside.any():
                for zoom in zooms:
                    yield zoom, _singles(windows.tiles(inside, zoom), zoom)
                left, gaps = _left(inside, gaps, len(block_x))
                block_x, block_y = block_x[left], block_y[left]
        positions = _Positions(columns_of(block_x, unit), rows_of(block_y, unit))
        missing = np.union1d(gaps, _off_map(block_y, unit)) if reaches_edge(positions.y) else gaps
        edges = None
        for zoom in zooms:
            if rings is not None:
                crossing = _centre_crossing(positions.y, edges, gaps, zoom)
                if len(crossing):
                    at = start + (crossing if left is None else left[crossing])
                    fills[zoom].append((positions.edges(crossing, zoom), np.searchsorted(rings, at, side="right")))
            edges = _changes(positions, edges, missing, zoom)
            for runs in _burn_changes(positions, edges, rings is not None, zoom):
                yield zoom, runs
    for zoom, parts in fills.items():
        if parts:
            crossing_edges, polygon = zip(*parts, strict=True)
            joined = _Edges(*map(np.concatenate, zip(*crossing_edges, strict=True)))
            for runs in _fill(joined, np.concatenate(polygon), zoom):
                yield zoom, runs


class _Windows(NamedTuple):
    """
    The bounds of windows: each has the ends of :data:`_WINDOW` edges. What is left of a block at its end has none.

    :param west: units from the map's western edge, shape (w,).
    :param north: units from its northern edge; likewise the others.
    """

    west: NDArray[np.uint32]
    north: NDArray[np.uint32]
    east: NDArray[np.uint32]
    south: NDArray[np.uint32]

    @classmethod
    def of(cls, x: NDArray[np.float64], y: NDArray[np.float64], unit: float) -> _Windows:
        """
        Return the windows of consecutive positions.

        :param x: longitudes, shape (m,).
        :param y: latitudes, shape (m,).
        :param unit: the unit of the coordinates in degrees.
        """
        # Windows have their last position in common with the next one, and reduceat is faster than min(axis=1).
        ends = np.arange(0, len(x) - _WINDOW, _WINDOW)
        (low_x, high_x), (low_y, high_y) = (
            (
                np.minimum(np.minimum.reduceat(side[: ends[-1] + _WINDOW], ends), side[ends + _WINDOW]),
                np.maximum(np.maximum.reduceat(side[: ends[-1] + _WINDOW], ends), side[ends + _WINDOW]),
            )
            for side in (x, y)
        )
        return cls(columns_of(low_x, unit), rows_of(high_y, unit), columns_of(high_x, unit), rows_of(low_y, unit))

    def in_one_tile(self, zooms: Sequence[int], *, has_rings: bool) -> NDArray[np.bool_]:
        """
        Return which windows burn the tile that they lie in, and do nothing else, at all zooms.

        :param zooms: from the highest to the lowest. A tile of a lower zoom contains those of a higher one.
        :param has_rings: whether the edges are those of polygons, which also fill tiles, and burn nothing on borders.
        """
        shift = np.uint32(BITS - zooms[0])
        inside: NDArray[np.bool_] = (self.west >> shift == self.east >> shift) & (
            self.north >> shift == self.south >> shift
        )
        # What is beyond the map is on its edge here.
        inside &= (self.north > NORTH_EDGE) & (self.south < SOUTH_EDGE)
        if not has_rings:
            for zoom in zooms:
                inside &= ~_barely_enters(self.south, zoom)
        else:
            inside &= _centres_north(self.north, zooms[0]) == _centres_north(self.south, zooms[0])
            for zoom in zooms:
                for side in self:
                    inside &= ~_is_near_border(side, zoom)
        return inside

    def tiles(self, chosen: NDArray[np.bool_], zoom: int) -> NDArray[Any]:
        """Return the number of each tile that windows lie in."""
        shift = np.uint32(BITS - zoom)
        tiles = tile_numbers(self.west[chosen] >> shift, self.north[chosen] >> shift, zoom)
        distinct: NDArray[Any] = tiles[np.append(True, tiles[1:] != tiles[:-1])]
        return distinct


def _left(
    skipped: NDArray[np.bool_], gaps: NDArray[np.int64], positions: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """
    Return the positions that are left without skipped windows, and after which of them there is no edge.

    :param skipped: whether each window is skipped.
    :param gaps: the positions of the block after which there is no edge.
    :param positions: the number of positions of the block.
    """
    begins_edge = np.ones(positions, np.bool_)
    begins_edge[: _WINDOW * len(skipped)] = np.repeat(~skipped, _WINDOW)
    begins_edge[gaps] = False
    begins_edge[-1] = False
    # A position is left if an edge that is left begins or ends there.
    is_left = begins_edge.copy()
    is_left[1:] |= begins_edge[:-1]
    left = np.flatnonzero(is_left)
    without_edge = np.flatnonzero(~begins_edge[left])
    return left, without_edge[without_edge < len(left) - 1]


def _off_map(latitudes: NDArray[np.float64], unit: float) -> NDArray[np.int64]:
    """Return the edges whose ends are both beyond the same edge of the map."""
    edge = WEB_MERCATOR_LATITUDE / unit
    north, south = latitudes > edge, latitudes < -edge
    return np.flatnonzero((north[1:] & north[:-1]) | (south[1:] & south[:-1]))


def _singles(tiles: NDArray[Any], zoom: int) -> Tiles:
    """Return tiles in the form of :mod:`airflow_mapbox.billing.runs`."""
    return tiles if tiles.dtype == np.uint32 else pack_tiles(tiles, zoom)


class _Positions(NamedTuple):
    """
    Consecutive positions.

    :param x: units from the map's western edge, shape (m,).
    :param y: units from its northern edge, shape (m,).
    """

    x: NDArray[np.uint32]
    y: NDArray[np.uint32]

    def tiles(self, chosen: NDArray[np.int64] | slice, zoom: int) -> NDArray[Any]:
        """Return the numbers of the tiles of positions."""
        shift = np.uint32(BITS - zoom)
        return tile_numbers(self.x[chosen] >> shift, self.y[chosen] >> shift, zoom)

    def edges(self, chosen: NDArray[np.int64], zoom: int) -> _Edges:
        """Return edges, each from the position of its number to the next one."""
        tile = 2.0 ** (zoom - BITS)
        x0, y0, x1, y1 = self.x[chosen], self.y[chosen], self.x[chosen + 1], self.y[chosen + 1]
        turned = x0 > x1
        west, east = np.minimum(x0, x1) * tile, np.maximum(x0, x1) * tile
        return _Edges(west, np.where(turned, y1, y0) * tile, east, np.where(turned, y0, y1) * tile)


class _Changes(NamedTuple):
    """
    The edges that lead to another tile, and gaps without an edge: positions at which runs within one tile end.

    :param after: the position before each edge, shape (n,), in rising order.
    :param is_gap: whether there is no edge after that position.
    :param tile: the number of the tile before each, and that of the last position, shape (n + 1,).
    """

    after: NDArray[np.int64]
    is_gap: NDArray[np.bool_]
    tile: NDArray[Any]


def _changes(positions: _Positions, finer: _Changes | None, gaps: NDArray[np.int64], zoom: int) -> _Changes:
    """
    Find the edges that lead to another tile.

    :param finer: those of a higher zoom, which are all that is searched; None to search all edges.
    :param gaps: the positions after which there is no edge.
    """
    if finer is None:
        tiles = positions.tiles(slice(None), zoom)
        ends = tiles[1:] != tiles[:-1]
        ends[gaps] = True
        after = np.flatnonzero(ends)
        is_gap = np.zeros(len(after), np.bool_)
        is_gap[np.searchsorted(after, gaps)] = True
        return _Changes(after, is_gap, tiles[np.append(after, len(ends))])
    tiles = positions.tiles(np.append(finer.after, len(positions.x) - 1), zoom)
    ends = (tiles[1:] != tiles[:-1]) | finer.is_gap
    return _Changes(finer.after[ends], finer.is_gap[ends], np.append(tiles[:-1][ends], tiles[-1:]))


def _burn_changes(positions: _Positions, changes: _Changes, has_rings: bool, zoom: int) -> Iterator[Tiles]:
    """
    Yield the tiles of edges.

    Most edges lie in one tile, or lead to its neighbour. Those are found by the tiles of their ends.

    :param changes: the edges that lead to another tile.
    """
    after, is_gap, tile = changes
    count = len(positions.x)
    # Most runs end with their path, so look at the other ends only.
    at = np.flatnonzero(~is_gap)
    edges = after[at]
    narrow, low = _small(positions, edges, zoom)
    step = (tile[1:] - tile[:-1])[at]
    in_column, in_row = _straight(step, zoom)
    to_side, to_row = _neighbours(step, zoom)
    simple = (to_side & ~narrow) | to_row
    sloped = ~(narrow | low)
    ends = sloped | simple
    on_corner = sloped & _is_diagonal(step, zoom)
    walked = ~(simple | on_corner)
    # A tile is burnt if an edge lies in it, or an edge that burns its ends begins or ends there.
    inside = np.empty(len(tile), np.bool_)
    np.greater(after[1:] - after[:-1], 1, out=inside[1:-1])
    inside[0] = count > 1 and (not len(after) or after[0] > 0)
    if len(after):
        inside[-1] = after[-1] < count - 2
    inside[_runs_without_tile(positions, np.concatenate(([-1], after, [count - 1])), has_rings, zoom)] = False
    if has_rings:
        upright = in_column | narrow
        on_border = _on_border(positions, edges, (upright, (in_row | low) & ~upright), zoom)
        ends[on_border] = walked[on_border] = False
    for side, is_far in enumerate(_far_ends(positions, edges, (in_row, in_column), zoom)):
        burns_end = np.zeros(len(after), np.bool_)
        burns_end[at] = ends & ~is_far
        inside[side : len(tile) - 1 + side] |= burns_end
    yield _singles(tile[inside], zoom)
    if on_corner.any():
        yield _singles(_tiles_at_corner(positions.edges(edges[on_corner], zoom), zoom), zoom)
    if walked.any():
        yield from _walk(positions.edges(edges[walked], zoom), zoom)


def _tolerance(tiles: float, zoom: int) -> np.uint32:
    """Return the largest number of units below a part of a tile."""
    return np.uint32(np.ceil(tiles * 2.0 ** (BITS - zoom)) - 1)


def _is_small(position: NDArray[np.uint32], edges: NDArray[np.int64], zoom: int) -> NDArray[np.bool_]:
    """Return whether edges are shorter in one direction than GDAL's tolerance. Integers wrap around."""
    most = _tolerance(_NARROW, zoom)
    small: NDArray[np.bool_] = position[edges + 1] - position[edges] + most <= np.uint32(2 * most)
    return small


def _small(positions: _Positions, edges: NDArray[np.int64], zoom: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which edges GDAL takes for narrow, and which of the others for low."""
    narrow, low = (_is_small(position, edges, zoom) for position in positions)
    low &= ~narrow
    return narrow, low


def _far_ends(
    positions: _Positions, edges: NDArray[np.int64], straight: tuple[NDArray[np.bool_], NDArray[np.bool_]], zoom: int
) -> Iterator[NDArray[np.bool_]]:
    """
    Yield whether the first end of each edge is one that barely enters the last tile, and whether the second end is.

    :param edges: edges that lead to another tile.
    :param straight: which edges are in one row, and which are in one column.
    """
    for end, other in ((edges, edges + 1), (edges + 1, edges)):
        is_far = np.zeros(len(edges), np.bool_)
        for position, chosen in zip(positions, straight, strict=True):
            is_far |= chosen & _barely_enters(position[end], zoom) & (position[end] > position[other])
        yield is_far


def _on_border(
    positions: _Positions,
    edges: NDArray[np.int64],
    straight: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    zoom: int,
) -> NDArray[np.bool_]:
    """
    Return whether edges lie on the border between two columns or two rows of tiles.

    :param straight: for which edges the columns decide, and for which the rows.
    """
    on_border = np.zeros(len(edges), np.bool_)
    for position, is_chosen in zip(positions, straight, strict=True):
        chosen = np.flatnonzero(is_chosen)
        on_border[chosen[_near_border(position, edges[chosen], edges[chosen] + 1, zoom)]] = True
    return on_border


def _near_border(
    position: NDArray[np.uint32], first: NDArray[np.int64], last: NDArray[np.int64], zoom: int
) -> NDArray[np.int64]:
    """Return which pairs of positions are both near the border of a tile. The first one rarely is."""
    near = np.flatnonzero(_is_near_border(position[first], zoom))
    both: NDArray[np.int64] = near[_is_near_border(position[last[near]], zoom)]
    return both


def _barely_enters(position: NDArray[np.uint32], zoom: int) -> NDArray[np.bool_]:
    """Return whether positions are just behind the western or northern border of their tile."""
    barely: NDArray[np.bool_] = position & np.uint32((1 << BITS - zoom) - 1) <= _tolerance(_ON_BORDER, zoom)
    return barely


def _is_near_border(position: NDArray[np.uint32], zoom: int) -> NDArray[np.bool_]:
    most = _tolerance(_ON_BORDER, zoom)
    near: NDArray[np.bool_] = ((position + most) & np.uint32((1 << BITS - zoom) - 1)) <= np.uint32(2 * most)
    return near


def _runs_without_tile(
    positions: _Positions, bounds: NDArray[np.int64], has_rings: bool, zoom: int
) -> NDArray[np.int64]:
    """
    Return the runs of positions in one tile whose edges all burn nothing.

    :param bounds: -1, and the last position of each run.
    """
    first, last = bounds[:-1] + 1, bounds[1:]
    sides = positions if has_rings else positions[1:]
    chosen: NDArray[np.int64] = np.unique(
        np.concatenate([_near_border(position, first, last, zoom) for position in sides])
    )
    chosen = chosen[last[chosen] > first[chosen]]
    if not len(chosen):
        return chosen
    counts = last[chosen] - first[chosen]
    starts = np.cumsum(counts) - counts
    edges = np.arange(int(counts.sum())) - np.repeat(starts - first[chosen], counts)
    without_tile = _barely_enters(np.maximum(positions.y[edges], positions.y[edges + 1]), zoom)
    if has_rings:
        without_tile[_near_border(positions.x, edges, edges + 1, zoom)] = True
    return chosen[np.logical_and.reduceat(without_tile, starts)]


def _neighbours(step: NDArray[Any], zoom: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """
    Return whether steps lead to the next tile in the same row, and whether to the next one in the same column.

    :param step: differences between the numbers of tiles, which wrap around.
    """
    one, row = step.dtype.type(1), step.dtype.type(1 << zoom + 1)
    return step + one <= one + one, (step == row) | (step + row == 0)


def _straight(step: NDArray[Any], zoom: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """
    Return whether steps lead to a tile in the same column, and whether to another one in the same row.

    :param step: differences between the numbers of tiles, which wrap around.
    """
    # A row of numbers has twice as many places as columns.
    row, most = step.dtype.type(1 << zoom + 1), step.dtype.type((1 << zoom) - 1)
    in_column = step & (row - step.dtype.type(1)) == 0
    in_row = (step + most <= most + most) & ~in_column
    return in_column, in_row


def _is_diagonal(step: NDArray[Any], zoom: int) -> NDArray[np.bool_]:
    """Return whether steps lead to a tile that has only a corner in common."""
    one, row = step.dtype.type(1), step.dtype.type(1 << zoom + 1)
    south, north = step - row + one, step + row + one
    diagonal: NDArray[np.bool_] = (south == 0) | (south == one + one) | (north == 0) | (north == one + one)
    return diagonal


def _tiles_at_corner(edges: _Edges, zoom: int) -> NDArray[Any]:
    """Return the third tile of edges between two tiles that have only a corner in common."""
    border = np.floor(edges.x1)
    west_row, east_row = np.floor(edges.y0), np.floor(edges.y1)
    y = edges.y0 + (border - edges.x0) * (edges.y1 - edges.y0) / (edges.x1 - edges.x0)
    in_west_row = np.floor(y) == west_row
    columns, rows = np.where(in_west_row, border, border - 1), np.where(in_west_row, west_row, east_row)
    return tile_numbers(columns.astype(np.uint32), rows.astype(np.uint32), zoom)


def _walk(edges: _Edges, zoom: int) -> Iterator[Tiles]:
    """Yield the tiles that edges cross, as runs in each row."""
    west, east = np.floor(edges.x0), np.floor(edges.x1)
    first_row, last_row = np.floor(edges.y0).astype(np.int64), np.floor(edges.y1).astype(np.int64)
    narrow = (edges.x1 - edges.x0 < _NARROW) | (west == east)
    low = ((np.abs(edges.y1 - edges.y0) < _NARROW) | (first_row == last_row)) & ~narrow
    top, bottom = np.minimum(first_row, last_row), np.maximum(first_row, last_row)
    bottom = np.where(narrow, np.floor(np.maximum(edges.y0, edges.y1) - _ON_BORDER).astype(np.int64), bottom)
    top, bottom = np.where(low, first_row, top), np.where(low, first_row, bottom)
    counts = np.maximum(bottom - top + 1, 0)
    west = np.where(narrow, east, west)
    east = np.where(low, np.floor(edges.x1 - _ON_BORDER), east)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (edges.x1 - edges.x0) / (edges.y1 - edges.y0)
    # A narrow edge has one column, and a low one all of its columns in one row.
    slope[narrow | low] = np.nan
    y = np.sort([edges.y0, edges.y1], axis=0)
    for chosen, rows in _expanded(top, counts):
        left, right = west[chosen], east[chosen]
        at_rows = np.clip([rows, rows + 1], y[0, chosen], y[1, chosen])
        crossed = np.floor(edges.x0[chosen] + (at_rows - edges.y0[chosen]) * slope[chosen])
        left = np.fmin(np.fmax(crossed.min(axis=0), left), right)
        right = np.fmax(np.fmin(crossed.max(axis=0), right), left)
        yield pack(rows, left.astype(np.int64), (right - left).astype(np.int64) + 1, zoom)


def _expanded(
    first: NDArray[np.int64], counts: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """
    Repeat items for each of their rows, a bounded number at once.

    :param first: the first row of each item.
    :param counts: the number of its rows.
    :return: the indices of items, and the row of each.
    """
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = ends[start] - counts[start]
        stop = max(int(np.searchsorted(ends, before + _MAX_RUNS, side="right")), start + 1)
        items = np.repeat(np.arange(start, stop), counts[start:stop])
        rows = np.arange(len(items)) - np.repeat(ends[start:stop] - counts[start:stop] - before, counts[start:stop])
        yield items, rows + first[items]
        start = stop


def _centre_crossing(
    y: NDArray[np.uint32], finer: _Changes | None, gaps: NDArray[np.int64], zoom: int
) -> NDArray[np.int64]:
    """
    Return the edges that cross the centre of a row.

    :param finer: the edges that lead to another tile of a higher zoom, whose rows end at that centre too.
    :param gaps: the positions after which there is no edge.
    """
    if finer is None:
        rows = _centres_north(y, zoom)
        crosses = rows[1:] != rows[:-1]
        crosses[gaps] = False
        return np.flatnonzero(crosses)
    edges = finer.after[~finer.is_gap]
    crossing: NDArray[np.int64] = edges[_centres_north(y[edges], zoom) != _centres_north(y[edges + 1], zoom)]
    return crossing


def _centres_north(y: NDArray[np.uint32], zoom: int) -> NDArray[np.uint32]:
    """Return how many centres of rows are north of each position. A bit is dropped, so that nothing overflows."""
    rows: NDArray[np.uint32] = ((y >> np.uint32(1)) + np.uint32(1 << BITS - zoom - 2)) >> np.uint32(BITS - zoom - 1)
    return rows


def _fill(edges: _Edges, owners: NDArray[np.int64], zoom: int) -> Iterator[Tiles]:
    """
    Yield the tiles whose centre is in a polygon.

    :param edges: the edges of all rings that cross the centre of a row.
    :param owners: the polygon of each edge.
    """
    ends = np.floor(np.stack([edges.y0, edges.y1]) + 0.5).astype(np.int64)
    first, stop = ends.min(axis=0), ends.max(axis=0)
    slope = (edges.x1 - edges.x0) / (edges.y1 - edges.y0)
    for low, high in _bands(first, stop):
        begin, counts = np.maximum(first, low), np.minimum(stop, high) - np.maximum(first, low)
        chosen = np.flatnonzero(counts > 0)
        repeated = np.repeat(chosen, counts[chosen])
        rows = np.arange(len(repeated)) - np.repeat(np.cumsum(counts[chosen]) - counts[chosen], counts[chosen])
        rows += begin[repeated]
        x = edges.x0[repeated] + (rows + 0.5 - edges.y0[repeated]) * slope[repeated]
        columns = np.floor(np.clip(x, edges.x0[repeated], edges.x1[repeated]) + 0.5).astype(np.uint64)
        # Every ring is closed, so each row of a polygon has an even number of crossings.
        order = (
            (owners[repeated].astype(np.uint64) << np.uint64(2 * zoom + 1))
            | (rows.astype(np.uint64) << np.uint64(zoom + 1))
            | columns
        )
        order.sort()
        tiles = (order & np.uint64((1 << 2 * zoom + 1) - 1)).astype(np.int64).reshape(-1, 2)
        tiles = tiles[tiles[:, 0] < tiles[:, 1]]
        yield pack(tiles[:, 0] >> zoom + 1, tiles[:, 0] & (1 << zoom + 1) - 1, tiles[:, 1] - tiles[:, 0], zoom)


def _bands(first: NDArray[np.int64], stop: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """
    Yield bands of rows, from north to south, each crossed by a bounded number of edges if it has several rows.

    :param first: the first row that each edge crosses.
    :param stop: the row after the last one.
    """
    bands = [(int(first.min()), int(stop.max()))]
    while bands:
        low, high = bands.pop()
        crossings = int((np.minimum(stop, high) - np.maximum(first, low)).clip(0).sum())
        if crossings > _MAX_RUNS and high - low > 1:
            middle = (low + high) // 2
            bands += [(middle, high), (low, middle)]
        elif crossings:
            yield low, high
