"""Archives of images: which forms are read and written, as streams over the content store."""
