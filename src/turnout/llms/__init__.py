"""sends whole requests to language models."""
