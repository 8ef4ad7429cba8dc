"""Who gets what, and who answers. It knows neither JSON nor frames."""
