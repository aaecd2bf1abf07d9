"""The process: configuration, lineage log, threads, endpoints, command line."""
