"""Tests of Sluicegate: see CONTRIBUTING.md for what runs where."""
