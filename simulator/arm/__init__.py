"""Resource Manager and Compute: the route page, the pipeline of a request, and a file per resource type."""
