"""What both drivers share, without a driver."""
