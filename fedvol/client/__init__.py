"""A hospital's side: its cases, its local training and judging, and the processes that answer.

`hospital` is the process that speaks with the server; it knows neither torch nor a network.
`site_process` starts the worker beside it, where `site_worker` opens a run's agent, `SiteAgent` of
`agent`. A simulation opens agents itself, by `agent_spec`, over cases of `prepare` and `cases`.
Nothing is exported here, so that whoever imports one part does not load the others.
"""
