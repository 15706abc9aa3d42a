"""Work on other processes and machines: one small protocol, the standard library's processes, and Dask."""
