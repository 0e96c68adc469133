"""Layer `http`: a client and what is common to the engines' own servers; and engine `http`, a server of the user's."""

from innerloop.engines.http.attached import HttpAdapter

adapter = HttpAdapter()
