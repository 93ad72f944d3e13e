"""`make demo`: the app's whole job on an embedded Azure, from the creation of machines to patched machines.

| file | part |
| --- | --- |
| fleet.py | the machines, and the expected end of each |
| stage.py | the run |
| report.py | the app's own report on the fleet |
| ticker.py, notices.py, screen.py | what people see |
| bad_day.py | another run, in which things go wrong: data for the workbook and the alerts |
"""
