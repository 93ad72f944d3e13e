"""Image Patcher: from a provisioned machine to patches installed. Five rooms, named by what may be in them:

model/      what we know and remember   nouns; the standard library only
policy/     what the owner wants        settings, tags, windows. May import model
decisions/  what follows                values with reasons. Pure; may import model and policy
cloud/      how we reach Azure          clients, translation, the ledger. Raw facts: no decisions, no remedies
steps/      doing it                    async; the only room with effects and rules together
journal     log events as JSON lines;   services: what a step is given, and where it is built

ARCHITECTURE.md names the files of each room.

An event or a message: function_app.py → steps/assess or steps/install → steps/observe → steps/start → cloud/arm.
A sweep: function_app.py → steps/reconcile: track → confirm → find → planning → dispatching → stopped → report.
model, policy and decisions never await, read a clock or do I/O; cloud and decisions never import each other.
tests/unit/test_structure.py holds every arrow; files may be arranged freely inside a room.
"""
