"""Findings, causes and changes rendered as text, JSON and other formats."""
