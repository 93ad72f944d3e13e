"""`patcher`, the operator's command line: it asks Azure and the ledger with the app's own decision code.

    commands.py  every command on one page: words → question → answer
    questions/   one module per question; each returns an Answer and changes nothing
    fleet.py     the fleet as a sweep would see it now, with images and forecast
    connection.py, profile.py, arm.py, reading.py   which app, by whose identity, and that nothing is written
    output.py    an answer for people, or for programs (schema.json)

It imports `functions`, never the other way, and is not deployed. It runs by the identity of the person who calls it.
"""
