"""The data: folders of prepared scenes, and how they are made from raw frames."""
