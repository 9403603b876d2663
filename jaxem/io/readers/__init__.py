"""One reader for each format of frames, and `formats`, which recognises them (extra ``app``)."""
