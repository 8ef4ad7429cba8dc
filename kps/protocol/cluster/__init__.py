"""Several servers as one: nodes that tell each other what their clients want and publish."""
