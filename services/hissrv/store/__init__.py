"""History stores: `contract` is what hissrv needs, `embedded` keeps files on this machine.

The embedded store in one picture:

    write ──> window.py    SQLite: rows of the open window, ids written, catalog of files
                 │ window closed (10 min or 4 M points)
                 v
              compact.py   Parquet files: of a window, then of a day with its tiers, then of a month of tiers
                 │ one switch in the catalog (catalog.py says what is due)
                 v
    query ──> read.py      cataloged files (parquet.py) and the rows not yet compacted (slices.py)
              stats.py     samples and tiers as rows that add up
              answer.py    from rows to the points of an answer, in the intervals of edges.py
"""
