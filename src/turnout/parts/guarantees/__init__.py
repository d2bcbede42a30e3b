"""Promises that hold on new requests: bounds on means, and what is held out to make them."""
