"""Image Patcher: from a provisioned machine to patches installed. The map:

function_app.py   every trigger on one page: binding → step
events            which machine an event is about
assess, install   the steps: read afresh, decide again, start one operation (operation: what both share)
reconcile         the sweep: settle → find → plan → hand out → report
compliance        pure: is a machine patched in time
settle, report    what became of what is in flight; what a sweep tells people
poisoned          a message that failed five times
machine, policy   what we know of a machine; what its owner wants (window: when; whose: is it ours at all)
record, rounds    what we remember of a machine and of an image: a row each, and its lawful moves
decision, plan    pure: the next step of one machine; which of the due ones now, and how far apart
cloud/            the only doors to Azure: compute, graph (+ queries), ledger (+ tables), work_queue, access, errors
journal           what happened, as JSON lines; doors: the set of doors a step is handed

Imports run one way: function_app → steps → decision, plan → record → policy, machine; the steps are handed the doors.
"""
