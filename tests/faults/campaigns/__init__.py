"""Long measurements with real processes and faults: `python -m tests.faults.campaigns.kills --store sqlite`.

They run with JobMaster's defaults (lease, renewals, recoveries) and judge what they find; an assertion that fails ends
the program. `make faults CAMPAIGNS=1` runs all of them.
"""
