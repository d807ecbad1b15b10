"""Attacks on the filter, the gate and the marks, each as a test that must hold.

Neutral throughout: placeholder words, score stubs, drawn pictures. `docs/threats.md` names them.
"""
