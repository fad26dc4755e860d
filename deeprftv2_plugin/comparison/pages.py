"""The page of a comparison: the table, and every image with the results of all networks."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deeprftv2_plugin.comparison.table import Column, Row, cells, value_of
from deeprftv2_plugin.evaluation.page import Cell, PageImage, Table, files_of, saved_image, write_page
from deeprftv2_plugin.metrics.direction import better_of
from deeprftv2_plugin.utils.atomic_io import writing


def write_pages(
    folder: Path, rows: Sequence[Row], columns: Sequence[Column], options: Mapping[str, Any], notes: Sequence[str] = ()
) -> list[Path]:
    """Write a page for each dataset: compare.html, or compare_SET.html if there are several.

    Args:
        folder: The output folder, to which `scoring.score` has written results and images.
        rows: The figures. Images are shown for the rows with `test`, the name of a test.
        columns: The columns of the table.
        options: Options of the tests, from `scoring.test_options`.
        notes: Paragraphs below the table.

    Returns:
        The paths of the pages.

    Raises:
        UserError: A page cannot be written.
    """
    sets = [each['name'] for each in options['datasets'].values()]
    better = {name: better_of(each) for name, each in options['val']['metrics'].items()}
    table = Table(
        ['network', *(column.heading for column in columns), 'remark'],
        [
            [Cell(text, value) for text, value in zip(cells(row, columns), _values(row, columns), strict=True)]
            for row in rows
        ],
    )
    paths = []
    with writing(folder):
        for each in sets:
            paths.append(folder / ('compare.html' if len(sets) == 1 else f'compare_{each}.html'))
            write_page(paths[-1], f'Comparison on {each}', table, images_of(folder, rows, each), better, notes)
    return paths


def _values(row: Row, columns: Sequence[Column]) -> list[float | None]:
    """Return the numbers by which the cells of a row are sorted."""
    found = [value_of(row, column.key) for column in columns]
    return [None, *(None if value is None else float(value) for value in found), None]


def images_of(folder: Path, rows: Sequence[Row], dataset: str) -> list[PageImage]:
    """Return the images of a dataset in its order, each with the results of all tested networks."""
    images: dict[str, PageImage] = {}
    for row in (row for row in rows if 'test' in row):
        results = folder / 'results' / row['test']
        with open(results / f'{dataset}.csv', newline='', encoding='utf-8') as file:
            (_, _, *metrics), *records = csv.reader(file)
            for name, _, *figures in records:
                scores = dict(zip(metrics, map(float, figures), strict=True))
                found = saved_image(files_of(results / f'{dataset}.html'), name, row['name'], scores)
                known = images.setdefault(name, found)
                images[name] = known._replace(
                    restored={**known.restored, **found.restored}, scores={**known.scores, **found.scores}
                )
    return list(images.values())
