"""One module for each family of models of theirs, see dragoman.interop.huggingface.family."""
