"""What a stranger might send (random messages, damaged files and streams, bombs), and how to send it."""
