"""Metrics: texts or unit embeddings in, numbers out. No text is ever dropped in silence."""
