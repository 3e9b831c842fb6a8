"""RecBole's models on our split, to compare ours with; it runs in a virtual environment of its own."""
