"""Study: does steering do what the paper says (docs/study.md)."""
