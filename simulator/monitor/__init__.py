"""Azure Monitor: the rows that Log Analytics shows of a Functions host, and queries over them."""
