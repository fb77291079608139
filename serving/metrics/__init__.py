"""What is counted. Only these files know prometheus_client."""
