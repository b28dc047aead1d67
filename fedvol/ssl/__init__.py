"""Pretext tasks: what a network learns from unlabelled volumes; each is an `Objective`."""
