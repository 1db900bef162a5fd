"""The functions of jobs on both servers."""
