"""Recipes: how detectors that read a classifier of their own have it trained.

`garbage` trains one for `inversion`, `confidence` one for the detector of that name; `obtain` has
`obtain_own_classifier`, which a run asks for such a classifier.
"""
