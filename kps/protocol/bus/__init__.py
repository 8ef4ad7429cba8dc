"""Routes publications, and gathers answers. It knows neither JSON nor frames."""
