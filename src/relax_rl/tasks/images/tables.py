"""Rows of tables that embed images: all columns but the images, which are read again when they are used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

from relax_rl.errors import DataError
from relax_rl.tasks.images.picture import Picture, Stored, as_picture

__all__ = ["dataset_rows", "is_picture", "parquet_rows"]

_GROUPS_KEPT = 2
"""Row groups that stay, encoded: one is read whole for a single image, and problems come in their order."""


def is_picture(value: Any) -> bool:
    """Whether a cell is an image or a list of images."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, Picture) for one in cast("list[Any]", value))
    return isinstance(value, Picture)


def dataset_rows(table: Any, name: str) -> Iterator[dict[str, Any]]:
    """Rows of a `datasets.Dataset`; its images stay in its file until they are used.

    Args:
        table: as `load_dataset` returns it.
        name: name of the data set, in the names of its images.
    """
    from datasets import Image

    features: Mapping[str, Any] = table.features or {}
    columns = [column for column, feature in features.items() if _has_images(feature)]
    for column in columns:
        single = isinstance(features[column], Image)
        table = table.cast_column(column, Image(decode=False) if single else _undecoded(features[column]))
    for index, row in enumerate(table):
        read = partial(_dataset_bytes, table, index)
        yield row | {column: _stored(row[column], read, f"{name} row {index} {column}", column) for column in columns}


def parquet_rows(path: Path, batch: int) -> Iterator[dict[str, Any]]:
    """Rows of a parquet file. Images are found by their type, a struct with `bytes`; one row group is read at a time.

    Args:
        batch: rows that are read at once from a file without images.
    """
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    columns = [field.name for field in file.schema_arrow if _holds_bytes(field.type)]
    if not columns:
        for part in file.iter_batches(batch):
            yield from part.to_pylist()
        return
    start = 0
    for group in range(file.num_row_groups):
        rows = file.read_row_group(group).to_pylist()
        for offset, row in enumerate(rows):
            read = partial(_parquet_bytes, path, group, offset)
            found = {
                name: _stored(row[name], read, f"{path} row {start + offset} {name}", name, path.parent)
                for name in columns
            }
            yield row | found
        start += len(rows)


def _stored(cell: Any, read: Any, name: str, column: str, folder: Path | None = None) -> Any:
    """A cell without its bytes: None, a picture, or a list of pictures."""
    if cell is None:
        return None
    if isinstance(cell, list):
        parts = cast("list[Any]", cell)
        return [
            _picture(part, partial(read, column, place), f"{name} {place}", folder) for place, part in enumerate(parts)
        ]
    return _picture(cell, partial(read, column, None), name, folder)


def _picture(cell: Any, read: Any, name: str, folder: Path | None) -> Picture | None:
    if cell is None or (cell.get("bytes") is None and not cell.get("path")):
        return None
    return Stored(read, name) if cell.get("bytes") is not None else as_picture(cell["path"], folder, name)


def _dataset_bytes(table: Any, index: int, column: str, place: int | None) -> bytes:
    cell = table.select_columns([column])[index][column]
    return _bytes_of(cell if place is None else cell[place])


def _parquet_bytes(path: Path, group: int, offset: int, column: str, place: int | None) -> bytes:
    about = path.stat()
    cell = _parquet_column(path, (about.st_mtime_ns, about.st_size), group, column)[offset].as_py()
    return _bytes_of(cell if place is None else cell[place])


@lru_cache(maxsize=_GROUPS_KEPT)
def _parquet_column(path: Path, stamp: tuple[int, int], group: int, column: str) -> Any:
    """The encoded images of a row group. A stamp tells a file from what it was before it was written again."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return file.read_row_group(group, columns=[column]).column(0)
    except pa.ArrowException as error:
        raise DataError(f"The file '{path}' cannot be read as parquet: {error}.") from error


def _bytes_of(cell: Mapping[str, Any]) -> bytes:
    return cell["bytes"]


def _holds_bytes(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _holds_bytes(kind.value_type)
    return pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0


def _has_images(feature: Any) -> bool:
    from datasets import Image, List

    return isinstance(feature, Image) or (isinstance(feature, List) and isinstance(feature.feature, Image))


def _undecoded(feature: Any) -> Any:
    from datasets import Image, List

    return List(Image(decode=False), length=feature.length)
