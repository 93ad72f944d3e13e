"""What Image Patcher costs, measured on one machine against the floor and against what people would use instead.

`make bench` runs every group of measurements and writes bench.json. A measurement is a program in a fresh process
(programs/), run in turns with its reference. What each row means and how it is measured: docs/performance.md.
"""
