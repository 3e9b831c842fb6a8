"""What finds candidates for the stage `retrieve`, besides graphs."""
