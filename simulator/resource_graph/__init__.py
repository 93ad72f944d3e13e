"""Resource Graph: its endpoint, its tables, and in kql/ the query language."""
