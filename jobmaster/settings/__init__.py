"""Settings of a cluster: what they are, where they may be written, and what is refused.

`resolve.resolve()` reads all sources and returns `ResolvedSettings`: the checked `values.Settings`, and the origin of
each value. `arguments.SettingArguments` is what an app may give, `declarations` has `Agent` and `Worker`, `dsn` reads
addresses, `names` says which names are allowed. Nothing is imported here: a producer pays for what it uses.
"""
