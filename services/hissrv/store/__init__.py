"""History stores: `contract` is what hissrv needs, `embedded` keeps files on this machine.

The embedded store in one picture:

    write ──> window.py    SQLite: rows of the open window, ids written, catalog of files
                 │ window closed (10 min or 20 M points)
                 v
              compact.py   Parquet sorted by series, then time; one switch in the catalog
                 │
    query ──> read.py      DuckDB over the cataloged files and the rows not yet compacted
              buckets.py   from statistics of intervals to aggregates
"""
