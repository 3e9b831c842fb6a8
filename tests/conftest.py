"""Here so that every room's tests can import the modules beside it."""
