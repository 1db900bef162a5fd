"""The functions of modsrv on both servers."""
