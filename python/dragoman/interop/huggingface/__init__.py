"""Checkpoints in the layout of the Hugging Face libraries: read, and written back.

Imported when a folder of theirs is opened or written, by `dragoman.models.folder.huggingface`.
"""
