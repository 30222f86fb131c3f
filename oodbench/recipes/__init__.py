"""Recipes: how the classifiers of a run are made.

`catalogue` names them and what is known of each; `obtain` gives a run its classifiers, `by_hand` does what
`oodbench train` asks for.
"""
