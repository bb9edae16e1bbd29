"""Generated rooms in the form of SSCNet's raw files: what a person without any data trains on."""

from datasets.rooms.rooms import VERSION, Room, make_room

__all__ = ["VERSION", "Room", "make_room"]
