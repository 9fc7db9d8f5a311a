"""Places where runs happen (ports.workload.Pool).

`loop`: `async def` tasks, on the engine's loop. `threads`: sync tasks, in threads of the engine's process. `solo`: sync
tasks, one at a time in one thread. `processes`: sync tasks, one at a time on the main thread of each of N processes
(Celery's prefork semantics). `ending`: what the end of a run means when it was told to stop. `suspended`: a coroutine
after its first step.
"""
