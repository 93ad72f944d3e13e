"""`make demo`: the whole main job on an embedded Azure, from machines being created to machines patched.

fleet.py: the machines and what should become of each; stage.py: the run; screen.py: what people see of it.
"""
