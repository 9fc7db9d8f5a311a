"""What the engine and the client ask of stores, clocks and processes, as small Protocols with documented promises."""
