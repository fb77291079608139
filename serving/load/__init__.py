"""A load generator: many clients of one server, in one process or several, and a report of what they met."""
