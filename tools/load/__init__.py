"""Open-loop load: schedules, visitors, calls, what is recorded and how it is judged; see docs/load.md."""
