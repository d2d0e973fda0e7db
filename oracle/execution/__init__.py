"""Order life-cycle and the desk that walks an approved order to its end."""
