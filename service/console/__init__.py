"""The console at `GET /`: a page for people over the public API, and the two addresses that it needs beside it."""
