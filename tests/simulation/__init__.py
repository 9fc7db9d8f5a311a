"""The real engine under simulated faults on a virtual clock, judged by a checker that knows nothing of the protocol."""
