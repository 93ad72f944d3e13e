"""`patcher page`: the fleet in a browser, live on this machine's loopback or as one file.

| file | part |
| --- | --- |
| document.py | what it shows of the fleet: one JSON document per refresh, from the questions of the other commands |
| machine.py | what it shows of one machine: the answer of `why`, and a timeline |
| feed.py | reads at most once per interval, however many browsers ask |
| server.py | answers a browser: who may ask, for what, with which headers |
| report.py | the page and one document in one file |
| assets/ | HTML, CSS and JavaScript, served as they stand |
"""
