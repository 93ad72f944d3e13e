"""`python -m simulator`: a fleet, the app and a clock that a person moves.

| file | part |
| --- | --- |
| fleet.py | the machines: images, ages, tags, and what their guests do |
| clock.py | the clock |
| app.py | the app's own settings, clock and report; the only importer of `functions` here |
| drive.py | what happens while the clock moves, in order: events, messages, sweeps |
| log.py | one line for each event of the journal |
| prompt.py | the commands that a person types or a program writes |
"""
