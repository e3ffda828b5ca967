"""The YouTube-VIS file format: its reading, masks, categories and writing."""
