"""Real links between engines and the keepers of their leases: shared memory and messages.

`threads`: an engine in this process, its keeper in a thread beside it. `processes`: engine processes, as their
supervisor sees them. `child_end`: the same link, as the engine process sees it. `memory`: what both see: trust, beats,
evidence. `framing`: messages on a socket. `orphans`: children end with their parent.
"""
