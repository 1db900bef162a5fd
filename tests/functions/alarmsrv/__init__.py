"""The functions of alarmsrv on both servers."""
