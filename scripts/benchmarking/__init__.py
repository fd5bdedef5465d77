"""How fast alignsim is, against the plain way of doing the same; what is timed, and how, stands in `work` and `plain`.

`command` asks `worker`, a fresh process for each row, so that peak memory and the first call are that row's own.
"""
