"""One reader for each format of frames, and `formats`, the table of them (extra ``app``)."""
