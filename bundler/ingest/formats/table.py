"""CSV: a block a row, each cell under the name of its column."""

from __future__ import annotations

import csv
import io

from bundler.ingest.formats.block import Parsed, decoded, row_blocks


def parse(data: bytes) -> Parsed:
    text = decoded(data)
    sample = text[:8192]
    try:
        dialect: type[csv.Dialect] = csv.Sniffer().sniff(sample, delimiters=",;\t|")
    except csv.Error:  # one column, or too little to see: the comma is the default of the format
        dialect = csv.excel
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text, newline=""), dialect)]
    return Parsed("", row_blocks([row for row in rows if any(row)]))
