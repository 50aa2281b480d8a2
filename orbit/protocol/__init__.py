"""Sans-I/O: messages, codecs, cursors, session and replay decisions. No `async def`, no clock, no randomness."""
