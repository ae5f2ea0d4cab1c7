"""Programs that make the embedded model: scenes, tokenizer, training, evaluation.

Not part of the installed distribution; run from a checkout as `python -m training.train`.
"""
