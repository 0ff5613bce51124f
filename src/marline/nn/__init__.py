"""Networks as pytrees of arrays, written for one example."""
