"""How commands are declared, interrupted and fail, and which packages they need."""
