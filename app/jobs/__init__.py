"""The queue's truth: job rows, leases, fences, events. Every change of state goes through `service.py`."""
