"""The parts of a report: what is read, what is shown, and the page around it."""
