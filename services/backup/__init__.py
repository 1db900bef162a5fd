"""`voltage backup` and `voltage restore`: a whole site in one file.

The order of taking makes the parts fit: first Redis, at one instant, then the
files. What Redis still queued for history at that instant may be in the copied
store as well; the store knows the entries it has and takes none twice.

Files:
    keyspace    the keys of a namespace: all of them at one instant, and back again
    collect     what else belongs to a site: history, users, keys, configuration
    archive     the file: tar and zstd, a manifest first, a checksum for each member
    settle      what a restored site must not bring back to life
    staging     restored beside, then renamed; nothing is ever half there
    run         the steps of both, in order
"""
