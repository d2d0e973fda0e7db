"""Trade Oracle: a daemon that proves option strategies on paper before it trades them."""

__version__ = "0.1.0"
