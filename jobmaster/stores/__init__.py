"""Adapters: every way in which the ports are fulfilled. They know the model, the rules and the ports, nothing above."""
