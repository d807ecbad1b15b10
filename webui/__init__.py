"""Easel: make pictures on your own machine."""
