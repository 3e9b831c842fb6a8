"""Smaller forms of the trained ranker, and the receipt that says what each costs and saves."""
