"""Lets requests in or refuses them, and keeps the gateway calm when destinations fail.

Nothing here opens a connection or knows of another part: clocks and randomness are handed in,
and each piece can be used without the others.
"""
